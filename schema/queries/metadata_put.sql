-- What is there already is written again only once a day.
INSERT INTO _promkeep.metadata AS m (tenant_id, family, digest, type, help, unit, seen)
SELECT * FROM unnest($1::int4[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::int4[])
    AS new (tenant_id, family, digest, type, help, unit, seen)
ORDER BY tenant_id, family, digest
ON CONFLICT (tenant_id, family, digest) DO UPDATE SET seen = excluded.seen WHERE m.seen < excluded.seen
