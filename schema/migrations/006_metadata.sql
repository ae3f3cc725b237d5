-- Type, help and unit of metric families, as senders announce them.
--
-- Cost on an existing database: none, this only creates.

CREATE TABLE _promkeep.metadata (
    tenant_id int4 NOT NULL REFERENCES _promkeep.tenant,
    family    text COLLATE "C" NOT NULL,
    digest    uuid NOT NULL,  -- first 128 bits of SHA-256 over the three texts, which are too long for an index
    type      text NOT NULL,
    help      text NOT NULL,
    unit      text NOT NULL,
    seen      int4 NOT NULL,  -- days since 1970: when it was last announced
    PRIMARY KEY (tenant_id, family, digest)
);
