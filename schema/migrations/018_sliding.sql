-- Version 3 of packed rows (storage/codec/FORMAT.md): kinds of columns in which a sliding mean of the differences predicts the next one.
--
-- Cost on an existing database: none; what is there stays as it is and goes on being read.

-- From residuals to integers where sums and products may leave the range of int8. Bits of float64 do so all the time.
CREATE OR REPLACE FUNCTION _promkeep.integrate_wrapping(u int8[], n int4, kind int4, zigzag bool, base int8, slope int8, unit int8) RETURNS int8[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    x int8;
    acc int8 := base;
    minus int8 := ~slope;
    shift int4 := 0;
BEGIN
    IF zigzag THEN
        FOR i IN 1 .. n LOOP
            x := u[i];
            u[i] := ((x >> 1) & 9223372036854775807) # (-(x & 1));
        END LOOP;
    END IF;
    IF unit > 0 AND (unit & (unit - 1)) = 0 THEN
        WHILE unit > 1 LOOP
            unit := unit >> 1;
            shift := shift + 1;
        END LOOP;
        IF shift > 0 THEN
            FOR i IN 1 .. n LOOP
                u[i] := u[i] << shift;
            END LOOP;
        END IF;
    ELSE
        FOR i IN 1 .. n LOOP
            u[i] := _promkeep.wrap_multiply(u[i], unit);
        END LOOP;
    END IF;

    IF kind = 4 THEN
        FOR i IN 1 .. n LOOP
            acc := acc # u[i];
            u[i] := acc;
        END LOOP;
    ELSIF kind = 0 THEN
        FOR i IN 1 .. n LOOP
            x := u[i];
            u[i] := _promkeep.wrap_add(base, x);
        END LOOP;
    ELSIF kind = 1 THEN
        acc := _promkeep.wrap_add(acc, minus); -- minus is -slope - 1, which does not overflow
        acc := _promkeep.wrap_add(acc, 1);
        FOR i IN 1 .. n LOOP
            x := u[i];
            acc := _promkeep.wrap_add(acc, slope);
            acc := _promkeep.wrap_add(acc, x);
            u[i] := acc;
        END LOOP;
    ELSIF kind > 4 THEN
        x := u[1];
        acc := _promkeep.wrap_add(acc, x);
        u[1] := acc;
        shift := kind - 4;
        slope := slope << shift;
        FOR i IN 2 .. n LOOP
            x := u[i];
            acc := _promkeep.wrap_add(acc, slope >> shift);
            acc := _promkeep.wrap_add(acc, x);
            slope := _promkeep.wrap_add(slope, x);
            u[i] := acc;
        END LOOP;
    ELSIF kind = 2 THEN
        x := u[1];
        acc := _promkeep.wrap_add(acc, x);
        u[1] := acc;
        FOR i IN 2 .. n LOOP
            x := u[i];
            slope := _promkeep.wrap_add(slope, x);
            acc := _promkeep.wrap_add(acc, slope);
            u[i] := acc;
        END LOOP;
    ELSE
        FOR i IN 1 .. n LOOP
            x := u[i];
            u[i] := _promkeep.wrap_add(acc, x);
            acc := _promkeep.wrap_add(acc, slope);
        END LOOP;
    END IF;
    RETURN u;
END $$;

-- The n integers of a column at a position, and as one more element the position after its corrections, which it leaves out.
-- origin is what the base is relative to.
CREATE OR REPLACE FUNCTION _promkeep.integers(b bytea, at int4, n int4, origin int8, version int4) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    head int4 := get_byte(b, at);
    width int4 := get_byte(b, at + 1);
    ext int4 := 0;
    kind int4 := head & 7;
    zigzag bool := (head & 8) <> 0;
    base int8;
    slope int8 := 0;
    unit int8 := 1;
    r int8[];
    how int4;
    presence bytea;
    absent int4 := 0; -- the bit in presence that says so
    m int4;
    u int8[];
    x int8;
    acc int8;
    j int4 := 1;
    -- Residuals of so many bits cannot overflow in sums of 2048, or in sums of sums.
    safe int4 := CASE WHEN kind = 2 OR kind > 4 THEN 40 ELSE 50 END;
    wrap bool;
BEGIN
    at := at + 2;
    IF width > 127 THEN
        ext := get_byte(b, at);
        at := at + 1;
        width := width - 128;
    END IF;
    IF kind > 4 AND version < 3 OR width > 64 OR ext > 31 THEN
        RAISE EXCEPTION 'column of kind % with % planes and extensions %', kind, width, ext;
    END IF;
    IF (head >> 4) = 15 THEN
        base := _promkeep.u64(b, at);
        at := at + 8;
        wrap := true;
    ELSE
        r := _promkeep.svarint(b, at);
        base := r[1];
        base := _promkeep.wrap_add(base, origin);
        at := r[2];
        wrap := base NOT BETWEEN -9007199254740992 AND 9007199254740992 OR width > safe;
    END IF;
    IF kind BETWEEN 1 AND 3 OR kind > 4 THEN
        r := _promkeep.svarint(b, at);
        slope := r[1];
        at := r[2];
        wrap := wrap OR slope NOT BETWEEN -9007199254740992 AND 9007199254740992;
    END IF;
    IF (ext & 1) <> 0 THEN
        r := _promkeep.uvarint(b, at);
        unit := r[1];
        at := r[2];
        wrap := wrap OR unit NOT BETWEEN 0 AND 1::int8 << (safe - width);
    END IF;

    IF width = 0 AND (ext & 10) = 0 THEN
        IF slope = 0 THEN
            RETURN array_fill(base, ARRAY[n]) || at::int8;
        ELSIF NOT wrap THEN
            RETURN ARRAY(SELECT base + i * slope FROM generate_series(0, n - 1) AS i) || at::int8;
        END IF;
        u := array_fill(0::int8, ARRAY[n]);
    ELSIF n > 1024 * least(version, 2) THEN
        RAISE EXCEPTION 'block of % samples with planes', n;
    ELSIF (ext & 8) = 0 THEN
        u := _promkeep.dense(b, at, n, width, (ext & 2) <> 0, version);
        at := u[array_length(u, 1)];
    ELSE
        how := get_byte(b, at);
        IF version = 1 THEN
            presence := _promkeep.plane(b, at + 1, how, n);
            at := at + 1 + _promkeep.plane_length(b, at + 1, how, n);
            m := bit_count(presence);
        ELSE
            presence := _promkeep.plane_2(b, at + 1, how & 15, n);
            at := _promkeep.last_int4(presence);
            presence := substr(presence, 1, length(presence) - 4);
            m := bit_count(presence);
            IF (how & 16) <> 0 THEN
                absent := 1;
                m := n - m;
            END IF;
        END IF;
        r := _promkeep.dense(b, at, m, width, (ext & 2) <> 0, version);
        at := r[array_length(r, 1)];
        u := array_fill(0::int8, ARRAY[n]);
        FOR i IN 0 .. n - 1 LOOP
            IF get_bit(presence, i) <> absent THEN
                x := r[j];
                u[i + 1] := _promkeep.wrap_add(x, 1);
                j := j + 1;
            END IF;
        END LOOP;
    END IF;

    IF (ext & 2) <> 0 AND NOT wrap THEN
        -- Exceptions have no bound of their own.
        SELECT max(e) > (1::int8 << safe) / greatest(unit, 1) OR min(e) < 0 INTO wrap FROM unnest(u[1:n]) AS e;
    END IF;
    IF wrap THEN
        u := _promkeep.integrate_wrapping(u, n, kind, zigzag, base, slope, unit);
    ELSIF kind = 1 THEN
        acc := base - slope;
        IF zigzag THEN
            IF unit = 1 THEN
                FOR i IN 1 .. n LOOP
                    x := u[i];
                    acc := acc + slope + ((x >> 1) # (-(x & 1)));
                    u[i] := acc;
                END LOOP;
            ELSE
                FOR i IN 1 .. n LOOP
                    x := u[i];
                    acc := acc + slope + ((x >> 1) # (-(x & 1))) * unit;
                    u[i] := acc;
                END LOOP;
            END IF;
        ELSE
            FOR i IN 1 .. n LOOP
                acc := acc + slope + u[i] * unit;
                u[i] := acc;
            END LOOP;
        END IF;
    ELSE
        IF zigzag THEN
            FOR i IN 1 .. n LOOP
                x := u[i];
                u[i] := (x >> 1) # (-(x & 1));
            END LOOP;
        END IF;
        IF kind = 0 THEN
            FOR i IN 1 .. n LOOP
                u[i] := base + u[i] * unit;
            END LOOP;
        ELSIF kind = 2 THEN
            acc := base + u[1] * unit;
            u[1] := acc;
            FOR i IN 2 .. n LOOP
                slope := slope + u[i] * unit;
                acc := acc + slope;
                u[i] := acc;
            END LOOP;
        ELSIF kind > 4 THEN
            acc := base + u[1] * unit;
            u[1] := acc;
            slope := slope << (kind - 4);
            FOR i IN 2 .. n LOOP
                x := u[i] * unit;
                acc := acc + (slope >> (kind - 4)) + x;
                slope := slope + x;
                u[i] := acc;
            END LOOP;
        ELSIF kind = 3 THEN
            acc := base;
            FOR i IN 1 .. n LOOP
                u[i] := acc + u[i] * unit;
                acc := acc + slope;
            END LOOP;
        ELSE
            acc := base;
            FOR i IN 1 .. n LOOP
                acc := acc # (u[i] * unit);
                u[i] := acc;
            END LOOP;
        END IF;
    END IF;
    RETURN u[1:n] || at::int8;
END $$;

-- The samples of a row of floats in [mint, maxt] (ms), and possibly others of the same blocks: timestamps in ms, and values with
-- NULL for stale markers.
CREATE OR REPLACE FUNCTION _promkeep.decode_row(data bytea, mint int8, maxt int8, OUT t int8[], OUT v float8[]) LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    b bytea := substr(data, 1); -- fetched once, should it lie out of line
    flags int4 := get_byte(b, 0) & 15;
    version int4 := get_byte(b, 0) >> 4;
    uniform bool := version >= 2 AND (flags & 2) <> 0; -- all timestamps follow from the header
    count int4;
    block int4;
    at int4;
    n int4;
    next int4; -- where the next block begins
    t0 int8;
    t1 int8; -- first timestamp of the next block
    step int8;
    r int8[];
    k int8[];
BEGIN
    IF version NOT BETWEEN 1 AND 3 OR flags > 7 THEN
        RAISE EXCEPTION 'format version % with flags % is not known', version, flags;
    END IF;
    t := '{}';
    v := '{}';
    r := _promkeep.uvarint(b, 1);
    count := r[1];
    at := r[2];
    block := count;
    IF (flags & 1) <> 0 THEN
        r := _promkeep.uvarint(b, at);
        block := r[1];
        at := r[2];
    END IF;
    IF count NOT BETWEEN 1 AND 131072 OR block NOT BETWEEN 1 AND count THEN
        RAISE EXCEPTION 'row of % samples in blocks of %', count, block;
    END IF;
    IF uniform THEN
        r := _promkeep.svarint(b, at);
        t0 := r[1];
        at := r[2];
        IF count > 1 THEN
            r := _promkeep.uvarint(b, at);
            step := r[1];
            at := r[2];
        END IF;
    END IF;
    IF (flags & 1) <> 0 THEN
        r := _promkeep.uvarint(b, at);
        at := r[2];
        next := at + r[1];
    END IF;
    IF NOT uniform THEN
        r := _promkeep.svarint(b, at);
        t0 := r[1];
        at := r[2];
    END IF;
    LOOP
        n := least(block, count);
        count := count - n;
        -- Looking ahead tells whether this block can hold anything that is wanted.
        IF count > 0 THEN
            r := _promkeep.uvarint(b, next);
            next := r[2] + r[1];
            IF uniform THEN
                t1 := t0 + n * step;
            ELSE
                r := _promkeep.uvarint(b, r[2]::int4);
                t1 := r[1];
                t1 := _promkeep.wrap_add(t0, t1);
            END IF;
        END IF;
        IF count = 0 OR t1 > mint THEN
            IF (flags & 2) = 0 THEN
                k := _promkeep.integers(b, at, n, t0, version);
                at := k[n + 1];
                t := t || k[1:n];
            ELSIF n = 1 THEN
                t := t || t0;
            ELSE
                IF NOT uniform THEN
                    k := _promkeep.uvarint(b, at);
                    step := k[1];
                    at := k[2];
                END IF;
                IF n = 2 THEN
                    t := t || ARRAY[t0, _promkeep.wrap_add(t0, step)];
                ELSE
                    t := t || ARRAY(SELECT generate_series(t0, t0 + step * (n - 1), step));
                END IF;
            END IF;
            IF (flags & 4) <> 0 THEN
                k := _promkeep.integers(b, at, n, t0, version);
                at := k[n + 1];
            END IF;
            v := v || _promkeep.floats(b, at, n, version);
        END IF;
        EXIT WHEN count = 0 OR t1 > maxt;
        t0 := t1;
        at := r[2];
    END LOOP;
END $$;
