-- Timestamps that series of many metrics share: all series of a target are scraped at the same moments, and where these are irregular each bundle of
-- the long-term store had a copy. Large ones are now kept once for a day, and bundles of version 2 refer to them (storage/chunks/BUNDLE.md).
--
-- Cost on an existing database: none; what is there stays as it is and goes on being read.

CREATE TABLE _promkeep.times (
    day    int8 NOT NULL,  -- the beginning of the day of the bundles that refer to it, ms
    digest bytea NOT NULL, -- the first 16 bytes of the SHA-256 of data
    data   bytea NOT NULL, -- a packed row of the timestamps, with the value 0
    PRIMARY KEY (day, digest)
);
ALTER TABLE _promkeep.times ALTER COLUMN data SET STORAGE EXTERNAL;

-- The packed rows of a row of a table. Where several share their timestamps, data is a zero byte, the length of the row of
-- timestamps (4 bytes), this, and the row with the numbers 0, 1, 2, … as timestamps: decode_shared reads it.
CREATE OR REPLACE FUNCTION _promkeep.unbundle(first_id int8, first_start int8, first_end int8, first_version int4, first_encoding int2, bundle bytea, wanted int8[])
RETURNS TABLE (series_id int8, start int8, "end" int8, version int4, encoding int2, data bytea) LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    b bytea;
    at int4 := 1;
    r int8[];
    times int4;
    members int4;
    lengths int4[] := '{}';
    sizes int8[];
    referred bool[];
    shared int4[];
    ids int8[];
    starts int8[];
    spans int8[];
    versions int4[];
    encodings int4[];
    place int4;
    id int8 := first_id;
    t int8 := first_start;
    span int8 := 0;
    row_of_times bytea;
BEGIN
    IF first_encoding <> 16 THEN
        series_id := first_id;
        start := first_start;
        "end" := first_end;
        version := first_version;
        encoding := first_encoding;
        data := bundle;
        IF first_id = ANY (wanted) THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    b := substr(bundle, 1); -- fetched once, should it lie out of line
    IF get_byte(b, 0) NOT IN (1, 2) THEN
        RAISE EXCEPTION 'bundle of an unknown version %', get_byte(b, 0);
    END IF;
    r := _promkeep.uvarint(b, at);
    times := r[1];
    at := r[2];
    FOR i IN 1 .. times LOOP
        r := _promkeep.uvarint(b, at);
        referred[i] := r[1] = 0 AND get_byte(b, 0) = 2;
        lengths[i] := CASE WHEN referred[i] THEN 16 ELSE r[1]::int4 END;
        at := r[2];
    END LOOP;
    r := _promkeep.uvarint(b, at);
    members := r[1];
    at := r[2];
    FOR i IN 1 .. members LOOP
        r := _promkeep.uvarint(b, at);
        id := id + r[1];
        r := _promkeep.svarint(b, r[2]::int4);
        t := t + r[1];
        r := _promkeep.svarint(b, r[2]::int4);
        span := span + r[1];
        r := _promkeep.svarint(b, r[2]::int4); -- samples
        ids[i] := id;
        starts[i] := t;
        spans[i] := span;
        r := _promkeep.uvarint(b, r[2]::int4);
        versions[i] := first_version - r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        encodings[i] := r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        shared[i] := r[1];
        r := _promkeep.uvarint(b, r[2]::int4);
        sizes[i] := r[1];
        at := r[2];
    END LOOP;
    at := at + 5; -- behind the checksum, and counted from 1
    place := at;
    FOR i IN 1 .. times LOOP
        place := place + lengths[i];
    END LOOP;
    FOR i IN 1 .. members LOOP
        IF ids[i] = ANY (wanted) THEN
            series_id := ids[i];
            start := starts[i];
            "end" := starts[i] + spans[i];
            version := versions[i];
            encoding := encodings[i];
            data := substr(b, place, sizes[i]::int4);
            IF shared[i] > 0 THEN
                row_of_times := substr(b, at + coalesce((SELECT sum(x) FROM unnest(lengths[1:shared[i] - 1]) AS x), 0)::int4, lengths[shared[i]]);
                IF referred[shared[i]] THEN
                    row_of_times := (SELECT k.data FROM _promkeep.times AS k
                                     WHERE k.day = floor(first_start / 86400000.0)::int8 * 86400000 AND k.digest = row_of_times);
                    IF row_of_times IS NULL THEN
                        RAISE EXCEPTION 'the timestamps of series % are not in the table of them', series_id;
                    END IF;
                END IF;
                data := '\x00'::bytea || int4send(octet_length(row_of_times)) || row_of_times || data;
            END IF;
            RETURN NEXT;
        END IF;
        place := place + sizes[i]::int4;
    END LOOP;
    IF place <> octet_length(b) + 1 THEN
        RAISE EXCEPTION 'the bundle is cut off';
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'a bundle of series from % on cannot be read: %', first_id, SQLERRM USING ERRCODE = 'data_corrupted';
END $$;
