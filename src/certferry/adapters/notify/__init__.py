"""Channels for messages: robots in groups, phones, mail, a webhook, Apprise's services."""
