"""What a listing of a bucket asks of the shards of its pool, and how their answers become one."""
