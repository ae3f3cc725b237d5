SELECT version, ids, started, ended FROM _promkeep.create_series($1::int4[], $2::int4[], $3::text[], $4::int4[], $5::int8)
