SELECT version, ids, started FROM _promkeep.import_series($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int4[], $7::int4[], $6::int8)
