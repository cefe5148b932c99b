"""obstore's own store, as the SDK configures it from the environment."""

import os

import obstore

import octad

store = octad.obstore_store(os.environ["OCTAD_BUCKET"])
obstore.put(store, "k", b"abc")
assert bytes(obstore.get(store, "k").bytes()) == b"abc"
assert [meta["path"] for chunk in obstore.list(store) for meta in chunk] == ["k"]
