-- Reading packed rows of floats in SQL. The format is that of storage/codec/FORMAT.md, version 1; its words are used here.
--
-- PL/pgSQL pays for each statement and for each operator, and not for the size of a value. So planes are expanded to strings
-- of bytes, eight bytes of eight planes at a time are turned into eight integers (the transposition of an 8×8 matrix of bits,
-- Hacker's Delight 7-3), and sums are taken in place. The checksum is not verified, which would cost more than decoding:
-- a damaged row mostly ends in an error, but may give wrong values.
--
-- Cost on an existing database: none, this only creates functions.

-- The sum modulo 2^64. Call it with variables: only then does the planner put it in place of the call.
CREATE FUNCTION _promkeep.wrap_add(a int8, b int8) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (((a >> 32) + (b >> 32) + (((a & 4294967295) + (b & 4294967295)) >> 32)) << 32) | (((a & 4294967295) + (b & 4294967295)) & 4294967295);

-- The product modulo 2^64.
CREATE FUNCTION _promkeep.wrap_multiply(a int8, b int8) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (mod(a::numeric * b::numeric, 18446744073709551616)
        - CASE WHEN mod(a::numeric * b::numeric, 18446744073709551616) > 9223372036854775807 THEN 18446744073709551616
               WHEN mod(a::numeric * b::numeric, 18446744073709551616) < -9223372036854775808 THEN -18446744073709551616
               ELSE 0 END)::int8;

-- The float64 with these bits, exactly; NULL for the stale marker, and 'NaN' for every other NaN, since SQL has no way to make
-- a float8 with a payload of NaN. (m + 2^52) * 2^k is exact whenever the product of the two is a float64.
CREATE FUNCTION _promkeep.float_of_bits(bits int8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    exponent int4 := (bits >> 52) & 2047;
    mantissa int8 := bits & 4503599627370495;
    x float8;
BEGIN
    IF exponent = 2047 THEN
        IF bits = 9218868437227405314 THEN
            RETURN NULL;
        ELSIF mantissa <> 0 THEN
            RETURN 'NaN'::float8;
        END IF;
        x := 'Infinity'::float8;
    ELSIF exponent = 0 THEN
        x := mantissa::float8 * power(2::float8, -537) * power(2::float8, -537);
    ELSIF exponent < 60 THEN
        x := (mantissa + 4503599627370496)::float8 * power(2::float8, exponent - 538) * power(2::float8, -537);
    ELSE
        x := (mantissa + 4503599627370496)::float8 * power(2::float8, exponent - 1075);
    END IF;
    RETURN CASE WHEN bits < 0 THEN -x ELSE x END;
END $$;

CREATE FUNCTION _promkeep.bits_of_float(x float8) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(float8send(x), 'hex'))::bit(64)::int8;

CREATE FUNCTION _promkeep.u64(b bytea, at int4) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(b, at + 1, 8), 'hex'))::bit(64)::int8;

-- The uvarint at a position (from 0), and the position after it.
CREATE FUNCTION _promkeep.uvarint(b bytea, at int4) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    byte int8 := get_byte(b, at);
    value int8 := byte & 127;
    shift int4 := 0;
BEGIN
    WHILE byte > 127 LOOP
        at := at + 1;
        shift := shift + 7;
        IF shift > 63 THEN
            RAISE EXCEPTION 'integer of more than ten bytes';
        END IF;
        byte := get_byte(b, at);
        value := value | ((byte & 127) << shift);
    END LOOP;
    RETURN ARRAY[value, at + 1];
END $$;

CREATE FUNCTION _promkeep.svarint(b bytea, at int4) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    r int8[] := _promkeep.uvarint(b, at);
BEGIN
    r[1] := ((r[1] >> 1) & 9223372036854775807) # (-(r[1] & 1));
    RETURN r;
END $$;

-- n bytes, of which those whose bit is set in mask follow each other in b from a position on; the others are zero.
CREATE FUNCTION _promkeep.scatter(mask bytea, b bytea, at int4, n int4) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    result bytea := decode(repeat('00', n), 'hex');
    m int4;
BEGIN
    FOR i IN 0 .. length(mask) - 1 LOOP
        m := get_byte(mask, i);
        IF m = 255 THEN
            result := overlay(result PLACING substr(b, at + 1, 8) FROM 8 * i + 1);
            at := at + 8;
        ELSE
            WHILE m <> 0 LOOP
                -- The place of the lowest bit that is set, by a table of 1, 2, 4, … 128 modulo 11.
                result := set_byte(result, 8 * i + get_byte('\x0000010002040007030605'::bytea, (m & -m) % 11), get_byte(b, at));
                at := at + 1;
                m := m & (m - 1);
            END LOOP;
        END IF;
    END LOOP;
    RETURN result;
END $$;

-- One plane of n bits: how it is stored, and the position of that. What follows the plane is at the position plus plane_length.
CREATE FUNCTION _promkeep.plane(b bytea, at int4, how int4, n int4) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    bytes int4 := (n + 7) / 8;
    masks int4 := (bytes + 7) / 8;
    masks2 int4 := (masks + 7) / 8;
    mask2 bytea;
BEGIN
    IF how = 1 THEN
        RETURN substr(b, at + 1, bytes);
    ELSIF how = 2 THEN
        RETURN _promkeep.scatter(substr(b, at + 1, masks), b, at + masks, bytes);
    ELSIF how = 3 THEN
        mask2 := substr(b, at + 1, masks2);
        RETURN _promkeep.scatter(_promkeep.scatter(mask2, b, at + masks2, masks), b, at + masks2 + bit_count(mask2)::int4, bytes);
    END IF;
    RETURN decode(repeat('00', bytes), 'hex');
END $$;

CREATE FUNCTION _promkeep.plane_length(b bytea, at int4, how int4, n int4) RETURNS int4 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    bytes int4 := (n + 7) / 8;
    masks int4 := (bytes + 7) / 8;
    masks2 int4 := (masks + 7) / 8;
    more int4;
BEGIN
    IF how = 1 THEN
        RETURN bytes;
    ELSIF how = 2 THEN
        RETURN masks + bit_count(substr(b, at + 1, masks))::int4;
    ELSIF how = 3 THEN
        more := bit_count(substr(b, at + 1, masks2))::int4;
        RETURN masks2 + more + bit_count(substr(b, at + masks2 + 1, more))::int4;
    END IF;
    RETURN 0;
END $$;

-- The unsigned integers of n residuals: planes and exceptions, width planes at a position. One more element is the position
-- after them; there may be further ones before it, so that it is the last.
CREATE FUNCTION _promkeep.dense(b bytea, at int4, n int4, width int4, exceptions bool) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    groups int4 := (n + 7) / 8;
    u int8[] := array_fill(0::int8, ARRAY[8 * groups]);
    kinds int4 := at;
    how int4;
    planes bytea := '';
    s1 int4 := groups; s2 int4 := 2 * groups; s3 int4 := 3 * groups; s4 int4 := 4 * groups; s5 int4 := 5 * groups; s6 int4 := 6 * groups; s7 int4 := 7 * groups;
    i int4 := 1;
    x int8;
    r int8[];
BEGIN
    at := at + (width + 3) / 4;
    FOR p IN 0 .. width - 1 LOOP
        how := (get_byte(b, kinds + p / 4) >> (2 * (p % 4))) & 3;
        planes := planes || _promkeep.plane(b, at, how, n);
        at := at + _promkeep.plane_length(b, at, how, n);
    END LOOP;
    IF length(planes) <> width * groups THEN
        RAISE EXCEPTION 'planes are cut off';
    END IF;
    planes := planes || decode(repeat('00', (7 - (width + 7) % 8) * groups), 'hex');

    IF width > 0 AND width <= 4 THEN
        FOR g IN 0 .. groups - 1 LOOP
            x := get_byte(planes, g) | (get_byte(planes, g + s1) << 8) | (get_byte(planes, g + s2) << 16)
                 | ((get_byte(planes, g + s3)::int8) << 24);
            IF x <> 0 THEN
                x := x # (((x # (x >> 7)) & 47851476196393130) * 129);
                x := x # (((x # (x >> 14)) & 225176545447116) * 16385);
                x := x # (((x # (x >> 28)) & 4042322160) * 268435457);
                u[i] := x & 255;
                u[i + 1] := (x >> 8) & 255;
                u[i + 2] := (x >> 16) & 255;
                u[i + 3] := (x >> 24) & 255;
                u[i + 4] := (x >> 32) & 255;
                u[i + 5] := (x >> 40) & 255;
                u[i + 6] := (x >> 48) & 255;
                u[i + 7] := (x >> 56) & 255;
            END IF;
            i := i + 8;
        END LOOP;
    ELSE
        FOR low IN 0 .. width - 1 BY 8 LOOP
            FOR g IN low * groups .. (low + 1) * groups - 1 LOOP
                x := ((get_byte(planes, g) | (get_byte(planes, g + s1) << 8) | (get_byte(planes, g + s2) << 16)
                       | (get_byte(planes, g + s3) << 24)) & 4294967295)
                     | ((get_byte(planes, g + s4) | (get_byte(planes, g + s5) << 8) | (get_byte(planes, g + s6) << 16)
                         | (get_byte(planes, g + s7) << 24))::int8 << 32);
                IF x <> 0 THEN
                    x := x # (((x # (x >> 7)) & 47851476196393130) * 129);
                    x := x # (((x # (x >> 14)) & 225176545447116) * 16385);
                    x := x # (((x # (x >> 28)) & 4042322160) * 268435457);
                    IF low = 0 THEN
                        u[i] := x & 255;
                        u[i + 1] := (x >> 8) & 255;
                        u[i + 2] := (x >> 16) & 255;
                        u[i + 3] := (x >> 24) & 255;
                        u[i + 4] := (x >> 32) & 255;
                        u[i + 5] := (x >> 40) & 255;
                        u[i + 6] := (x >> 48) & 255;
                        u[i + 7] := (x >> 56) & 255;
                    ELSE
                        u[i] := u[i] | ((x & 255) << low);
                        u[i + 1] := u[i + 1] | (((x >> 8) & 255) << low);
                        u[i + 2] := u[i + 2] | (((x >> 16) & 255) << low);
                        u[i + 3] := u[i + 3] | (((x >> 24) & 255) << low);
                        u[i + 4] := u[i + 4] | (((x >> 32) & 255) << low);
                        u[i + 5] := u[i + 5] | (((x >> 40) & 255) << low);
                        u[i + 6] := u[i + 6] | (((x >> 48) & 255) << low);
                        u[i + 7] := u[i + 7] | (((x >> 56) & 255) << low);
                    END IF;
                END IF;
                i := i + 8;
            END LOOP;
            i := 1;
        END LOOP;
    END IF;

    IF exceptions THEN
        r := _promkeep.uvarint(b, at);
        at := r[2];
        i := 1;
        FOR e IN 1 .. r[1] LOOP
            r := _promkeep.uvarint(b, at);
            i := i + r[1];
            r := _promkeep.uvarint(b, r[2]::int4);
            at := r[2];
            IF i > n THEN
                RAISE EXCEPTION 'exception outside of its block';
            END IF;
            u[i] := u[i] | (r[1] << width);
            i := i + 1;
        END LOOP;
    END IF;
    RETURN u || at::int8;
END $$;

-- From residuals to integers where sums and products may leave the range of int8. Bits of float64 do so all the time.
CREATE FUNCTION _promkeep.integrate_wrapping(u int8[], n int4, kind int4, zigzag bool, base int8, slope int8, unit int8) RETURNS int8[]
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
CREATE FUNCTION _promkeep.integers(b bytea, at int4, n int4, origin int8) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
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
    u int8[];
    x int8;
    acc int8;
    j int4 := 1;
    -- Residuals of so many bits cannot overflow in sums of 1024, or in sums of sums.
    safe int4 := CASE WHEN kind = 2 THEN 40 ELSE 50 END;
    wrap bool;
BEGIN
    at := at + 2;
    IF width > 127 THEN
        ext := get_byte(b, at);
        at := at + 1;
        width := width - 128;
    END IF;
    IF kind > 4 OR width > 64 OR ext > 31 THEN
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
    IF kind BETWEEN 1 AND 3 THEN
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
    ELSIF n > 1024 THEN
        RAISE EXCEPTION 'block of % samples with planes', n;
    ELSIF (ext & 8) = 0 THEN
        u := _promkeep.dense(b, at, n, width, (ext & 2) <> 0);
        at := u[array_length(u, 1)];
    ELSE
        how := get_byte(b, at);
        presence := _promkeep.plane(b, at + 1, how, n);
        at := at + 1 + _promkeep.plane_length(b, at + 1, how, n);
        r := _promkeep.dense(b, at, bit_count(presence)::int4, width, (ext & 2) <> 0);
        at := r[array_length(r, 1)];
        u := array_fill(0::int8, ARRAY[n]);
        FOR i IN 0 .. n - 1 LOOP
            IF get_bit(presence, i) = 1 THEN
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
