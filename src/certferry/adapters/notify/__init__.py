"""What brings messages: robots in groups, phones, mail, a webhook, what Apprise knows."""
