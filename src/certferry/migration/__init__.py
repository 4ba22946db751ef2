"""Other ACME clients: reading their homes, adopting their certificates, ending their renewals."""
