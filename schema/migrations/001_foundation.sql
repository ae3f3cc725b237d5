-- The catalogue, the log and the packed rows.
--
-- Everything internal lives in the schema _promkeep; the schema promkeep is the surface that SQL users may rely on.
-- Cost on an existing database: none, this only creates.

CREATE SCHEMA _promkeep;
CREATE SCHEMA promkeep;

COMMENT ON SCHEMA _promkeep IS 'promkeep: internal tables; their shape changes between versions';
COMMENT ON SCHEMA promkeep IS 'promkeep: metrics for SQL users; documented and stable';

-- Catalogue ---------------------------------------------------------------------------------------------------------

CREATE TABLE _promkeep.tenant (
    id   int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- A metric belongs to a tenant, so that a tenant's series lie together.
CREATE TABLE _promkeep.metric (
    id        int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id int4 NOT NULL REFERENCES _promkeep.tenant,
    name      text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, name)
);

-- The dictionary: one row per label pair. Values are at most 2,048 bytes, so that a pair fits into an index entry.
CREATE TABLE _promkeep.label (
    id    int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    UNIQUE (name, value)
);

CREATE SEQUENCE _promkeep.series_seq MAXVALUE 137438953471; -- 2^37 - 1

CREATE TABLE _promkeep.series (
    id      int8 PRIMARY KEY,      -- metric.id << 37 | series_seq: sorting by id clusters by metric
    hash    uuid NOT NULL UNIQUE,  -- first 128 bits of SHA-256 over tenant and canonical labels, verified against labels
    started int4 NOT NULL,         -- hours since 1970: no sample of the series is older
    ended   int4,                  -- hours since 1970: no sample is younger; NULL while the series is active
    labels  int4[] NOT NULL        -- label.id of each pair but the name, in the order of label names
);
CREATE INDEX series_labels ON _promkeep.series USING gin (labels);

-- Leadership and the log ------------------------------------------------------------------------------------------------

-- One row. epoch fences a leader that lost its lock: every flush and merge checks it in its own transaction.
CREATE TABLE _promkeep.leader (
    only_row      bool PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch         int8 NOT NULL DEFAULT 0,
    flush_version int4 NOT NULL DEFAULT 0, -- counts flushes: of two rows with the same timestamp the higher version wins
    youngest      int8 NOT NULL DEFAULT 0  -- ms, the youngest sample ever flushed: a clock far ahead of it is not believed
);
INSERT INTO _promkeep.leader DEFAULT VALUES;

-- A segment is written by one session, which holds the advisory lock ('pkls', id) as long as it lives: whoever gets that
-- lock knows that no commit can come late. Rows appear in the order of seq, without gaps.
CREATE TABLE _promkeep.log_segment (
    id        int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream    uuid NOT NULL,          -- the adapter that writes it
    number    int4 NOT NULL,          -- counts the segments of the stream
    opened_at timestamptz NOT NULL DEFAULT now(),
    sealed    bool NOT NULL DEFAULT false,
    UNIQUE (stream, number)
);

-- One or more rows per group commit, each below a page, so that they need no TOAST.
CREATE TABLE _promkeep.log (
    segment int4 NOT NULL,
    seq     int8 NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (segment, seq)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000000, autovacuum_analyze_threshold = 1000000000,
        autovacuum_vacuum_cost_delay = 0);
ALTER TABLE _promkeep.log ALTER COLUMN payload SET STORAGE MAIN;

-- Packed rows -------------------------------------------------------------------------------------------------------------

-- A part holds rows on their way to chunk: level 0 as they were flushed, level 1 merged to two-hour windows of one day.
-- It is consumed as a whole, in order of series_id: rows up to merged_upto have moved on and no longer count.
CREATE TABLE _promkeep.part (
    id          int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    level       int2 NOT NULL,
    window_start int8 NOT NULL,           -- ms: level 0, when its generation began; level 1, the day of its samples
    opened_at   timestamptz NOT NULL DEFAULT now(),
    sealed      bool NOT NULL DEFAULT false,
    merged_upto int8 NOT NULL DEFAULT -1  -- 9223372036854775807 once all has moved on
);

CREATE TABLE _promkeep.recent (
    part      int4 NOT NULL,
    series_id int8 NOT NULL,
    start     int8 NOT NULL,  -- ms, first sample
    "end"     int8 NOT NULL,  -- ms, last sample
    n         int4 NOT NULL,  -- samples
    version   int4 NOT NULL,
    encoding  int2 NOT NULL,
    data      bytea NOT NULL
) PARTITION BY LIST (part);
CREATE INDEX recent_series ON _promkeep.recent (series_id, start);
ALTER TABLE _promkeep.recent ALTER COLUMN data SET STORAGE EXTERNAL;

-- _promkeep.chunk, the long-term store, is created by the layout that fits the server: see layout/.

-- State that decides how things are done in this database, such as the layout of chunk.
CREATE TABLE _promkeep.setting (
    name  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);
