"""What an exported certificate becomes: files in a directory."""

from __future__ import annotations

from certferry.adapters.clients.exported_files import write_bundle

__all__ = ["write_bundle"]
