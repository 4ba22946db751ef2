"""What starts a run every day: cron, systemd."""
