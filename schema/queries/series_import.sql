SELECT version, ids, started FROM _promkeep.import_series($1::int4[], $2::text[], $3::int4[], $5::int4[], $4::int8)
