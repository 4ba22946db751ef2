"""Values for the certificates and deployments declared by the operator."""
