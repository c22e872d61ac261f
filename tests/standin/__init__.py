"""A local internet: two search engines, hosts of photos, good and hostile."""
