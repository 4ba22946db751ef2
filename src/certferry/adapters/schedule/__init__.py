"""Schedules that start a run twice a day, by cron or by systemd."""
