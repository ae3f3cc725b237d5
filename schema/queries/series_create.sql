SELECT version, ids, started, ended FROM _promkeep.create_series($1::int4[], $2::text[], $3::int4[], $4::int8)
