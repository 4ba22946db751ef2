"""DNS services of the library lexicon: `dns` makes bounded calls to one provider."""
