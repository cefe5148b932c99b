"""Does: processes, proxies, requests, files."""
