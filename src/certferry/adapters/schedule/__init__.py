"""What starts a run twice a day: cron, systemd."""
