SELECT version, ids, started, ended FROM _promkeep.create_series($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int4[], $6::int8)
