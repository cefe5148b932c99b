"""The configuration store: one interface, etcd and an embedded one behind it."""
