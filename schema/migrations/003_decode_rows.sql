-- Reading packed rows of floats in SQL, continued: values, blocks and rows.
--
-- Cost on an existing database: none, this only creates functions.

-- The n values of a block at a position; NULL stands for the stale marker.
CREATE FUNCTION _promkeep.floats(b bytea, at int4, n int4) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    scale int4 := get_byte(b, at) >> 4;
    ext int4 := CASE WHEN get_byte(b, at + 1) > 127 THEN get_byte(b, at + 2) ELSE 0 END;
    k int8[] := _promkeep.integers(b, at, n, 0);
    v float8[];
    divisor float8;
    x int8;
    step int8;
    y float8;
    exponent int4;
    last int4 := -1;
    factor float8;
    r int8[];
BEGIN
    at := k[n + 1];
    IF scale = 0 THEN
        v := k[1:n]::float8[];
    ELSIF scale < 15 THEN
        divisor := ('{1e1,1e2,1e3,1e4,1e5,1e6,1e7,1e8,1e9,1e10,1e11,1e12,1e13,1e14}'::float8[])[scale];
        v := array_fill(0::float8, ARRAY[n]);
        FOR i IN 1 .. n LOOP
            v[i] := k[i]::float8 / divisor;
        END LOOP;
    ELSE
        v := array_fill(0::float8, ARRAY[n]);
        FOR i IN 1 .. n LOOP
            x := k[i];
            exponent := (x >> 52) & 2047;
            IF exponent BETWEEN 60 AND 2046 THEN
                -- As float_of_bits, but neighbours mostly share their exponent.
                IF exponent <> last THEN
                    factor := power(2::float8, exponent - 1075);
                    last := exponent;
                END IF;
                y := ((x & 4503599627370495) + 4503599627370496)::float8 * factor;
                IF x < 0 THEN
                    y := -y;
                END IF;
                v[i] := y;
            ELSE
                v[i] := _promkeep.float_of_bits(x);
            END IF;
        END LOOP;
    END IF;
    IF (ext & 16) <> 0 THEN
        k := _promkeep.integers(b, at, n, 0);
        at := k[n + 1];
        FOR i IN 1 .. n LOOP
            IF k[i] <> 0 THEN
                x := _promkeep.bits_of_float(v[i]);
                step := k[i];
                v[i] := _promkeep.float_of_bits(_promkeep.wrap_add(x, step));
            END IF;
        END LOOP;
    END IF;
    IF (ext & 4) <> 0 THEN
        r := _promkeep.uvarint(b, at);
        at := r[2];
        last := 1;
        FOR e IN 1 .. r[1] LOOP
            r := _promkeep.uvarint(b, at);
            at := r[2];
            last := last + (r[1] >> 2);
            IF last > n THEN
                RAISE EXCEPTION 'special value outside of its block';
            END IF;
            IF (r[1] & 3) = 0 THEN
                y := _promkeep.float_of_bits(_promkeep.u64(b, at));
                at := at + 8;
            ELSIF (r[1] & 3) = 1 THEN
                y := NULL;
            ELSIF (r[1] & 3) = 2 THEN
                y := 'NaN';
            END IF;
            v[last] := y;
            last := last + 1;
        END LOOP;
    END IF;
    RETURN v;
END $$;

-- The samples of a row of floats in [mint, maxt] (ms), and possibly others of the same blocks: timestamps in ms, and values with
-- NULL for stale markers.
CREATE FUNCTION _promkeep.decode_row(data bytea, mint int8, maxt int8, OUT t int8[], OUT v float8[]) LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    b bytea := substr(data, 1); -- fetched once, should it lie out of line
    flags int4 := get_byte(b, 0) & 15;
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
    IF (get_byte(b, 0) >> 4) <> 1 OR flags > 7 THEN
        RAISE EXCEPTION 'format version % with flags % is not known', get_byte(b, 0) >> 4, flags;
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
        r := _promkeep.uvarint(b, at);
        at := r[2];
        next := at + r[1];
    END IF;
    IF count NOT BETWEEN 1 AND 131072 OR block NOT BETWEEN 1 AND count THEN
        RAISE EXCEPTION 'row of % samples in blocks of %', count, block;
    END IF;
    r := _promkeep.svarint(b, at);
    t0 := r[1];
    at := r[2];
    LOOP
        n := least(block, count);
        count := count - n;
        -- Looking ahead tells whether this block can hold anything that is wanted.
        IF count > 0 THEN
            r := _promkeep.uvarint(b, next);
            next := r[2] + r[1];
            r := _promkeep.uvarint(b, r[2]::int4);
            t1 := r[1];
            t1 := _promkeep.wrap_add(t0, t1);
        END IF;
        IF count = 0 OR t1 > mint THEN
            IF (flags & 2) = 0 THEN
                k := _promkeep.integers(b, at, n, t0);
                at := k[n + 1];
                t := t || k[1:n];
            ELSIF n = 1 THEN
                t := t || t0;
            ELSE
                k := _promkeep.uvarint(b, at);
                step := k[1];
                at := k[2];
                IF n = 2 THEN
                    t := t || ARRAY[t0, _promkeep.wrap_add(t0, step)];
                ELSE
                    t := t || ARRAY(SELECT generate_series(t0, t0 + step * (n - 1), step));
                END IF;
            END IF;
            IF (flags & 4) <> 0 THEN
                k := _promkeep.integers(b, at, n, t0);
                at := k[n + 1];
            END IF;
            v := v || _promkeep.floats(b, at, n);
        END IF;
        EXIT WHEN count = 0 OR t1 > maxt;
        t0 := t1;
        at := r[2];
    END LOOP;
END $$;
