"""One integer network on every chip: lowering, the reference, engines and backends."""
