"""The old place of the contract suites for authors of adapters, now in certferry-sandbox."""

message = (
    "certferry.testing is certferry_sandbox.testing now: write `from certferry_sandbox.testing…` in"
    " place of `from certferry.testing…`, and install certferry-sandbox (in certferry's checkout:"
    " pip install './sandbox[testing]')"
)
raise ImportError(message, name=__name__)
