"""The SDK's buckets and objects: `octad.Client`, `octad.AsyncClient` and what they return."""
