-- Reading packed rows of floats in SQL, version 2 of storage/codec/FORMAT.md; its words are used here. Functions that now are
-- told the version replace those of migrations 002 and 003.
--
-- Cost on an existing database: none, this only creates functions.

DROP FUNCTION _promkeep.dense(bytea, int4, int4, int4, bool);
DROP FUNCTION _promkeep.integers(bytea, int4, int4, int8);
DROP FUNCTION _promkeep.floats(bytea, int4, int4);

-- n bytes in a prefix code, from a position in bits (from 0) on, and in four bytes more the position behind them, in bits.
-- Codes are canonical: of twelve bits taken as a number, ranges say how long the code is that they begin with, and the place
-- in its range which of the bytes, which are in order of their codes, has it.
CREATE FUNCTION _promkeep.coded(b bytea, at int4, code int4, n int4) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    result bytea := decode(repeat('00', n), 'hex');
    starts int4[];  -- of ranges
    lengths int4[]; -- of codes, of each range
    before int4[];  -- codes before each range
    bytes bytea;    -- in order of their codes
    x int4;
    range int4;
BEGIN
    IF code = 0 THEN
        starts := '{0,384,1376,3392,4056}';
        lengths := '{6,7,8,9,10}';
        before := '{0,6,37,163,246}';
        bytes := '\x000102040810030506090a0c1112141820212224283040414244485060808182848890a0c0070b0d0e0f13151617191a1b1c1d1e23252627292a2b2c'
                 '2d2e31323334353638393a3c43454647494a4b4c4d4e51525354555658595a5c61626364656668696a6c707172747883858687898a8b8c8d8e919293'
                 '94959698999a9ca1a2a3a4a5a6a8a9aaacb0b1b2b4b8c1c2c3c4c5c6c8c9caccd0d1d2d4d8e0e1e2e4e8f01f2f373b3d3e3f4f575b5d5e5f676b6d6e'
                 '6f73757677797a7b7c7d7e8f979b9d9e9fa7abadaeafb3b5b6b7b9babbbcbdbec7cbcdcecfd3d5d6d7d9dadbdcdddee3e5e6e7e9eaebecedeef1f2f3'
                 'f4f5f6f8f9fa7fbfdfeff7fbfcfdfeff';
    ELSIF code = 1 THEN
        starts := '{0,256,1280,1600,2368,3248,3808,4032,4086}';
        lengths := '{4,5,6,7,8,9,10,11,12}';
        before := '{0,1,9,14,38,93,163,219,246}';
        bytes := '\x000102040810204080030506090a070c1112141821222428304142444850608182848890a0c00b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c4c8d0e00f171b1d1e272b2d2e333536393a3c474b4d4e535556595a5c6365'
                 '66696a6c71727478878b8d8e939596999a9ca3a5a6a9aaacb1b2b4b8c3c5c6c9caccd1d2d4d8e1e2e4e8f01f2f373b3d3e4f575b5d5e676b6d6e7375'
                 '76797a7c8f979b9d9ea7abadaeb3b5b6b9babcc7cbcdced3d5d6d9dadce3e5e6e9eaecf1f2f4f83f5f6f777b7d7e9fafb7bbbdbecfd7dbdddee7ebed'
                 'eef3f5f6f9fa7fbfdfeff7fbfcfdfeff';
    ELSIF code = 2 THEN
        starts := '{0,512,1536,2176,2752,3648,3688,3948,4058}';
        lengths := '{3,5,6,7,8,9,10,11,12}';
        before := '{0,1,9,19,37,93,98,163,218}';
        bytes := '\x000102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c4c8d0e00f171b1d1e272b2d2e333536393a3c474b4d4e535556595a5c6365'
                 '66696a6c71727478878b8d8e939596999a9ca3a5a6a9aaacb1b2b4b8c3c5c6c9caccd1d2d4d8e1e2e4e8f01f2f373b3d3e4f575b5d5e676b6d6e7375'
                 '76797a7c8f979b9d9ea7abadaeb3b5b6b9babcc7cbcdced3d5d6d9dadce3e5e6e9eaecf1f2f43f5f6f777b7d7e7f9fafb7bbbdbebfcfd7dbdddedfe7'
                 'ebedeeeff3f5f6f7f8f9fafbfcfdfeff';
    ELSIF code = 3 THEN
        starts := '{0,1024,1792,2432,2560,3392,3424,3856,3868,4004}';
        lengths := '{2,4,5,6,7,8,9,10,11,12}';
        before := '{0,1,4,9,11,37,39,93,96,164}';
        bytes := '\x000102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c4c8d0e00f171b1d1e1f272b2d2e333536393a3c474b4d4e535556595a5c63'
                 '6566696a6c71727478878b8d8e939596999a9ca3a5a6a9aaacb1b2b4b8c3c5c6c9caccd1d2d4d8e1e2e4e8f02f373b3d3e3f4f575b5d5e5f676b6d6e'
                 '6f73757677797a7b7c7d7e7f8f979b9d9e9fa7abadaeafb3b5b6b7b9babbbcbdbebfc7cbcdcecfd3d5d6d7d9dadbdcdddedfe3e5e6e7e9eaebecedee'
                 'eff1f2f3f4f5f6f7f8f9fafbfcfdfeff';
    ELSIF code = 4 THEN
        starts := '{0,1024,2304,2688,3584,3832,3932,3934}';
        lengths := '{2,4,5,7,9,10,11,12}';
        before := '{0,1,6,9,37,68,93,94}';
        bytes := '\x000102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c4c8d0e00f171b1d1e1f272b2d2e2f33353637393a3b3c3d3e3f474b4d4e4f'
                 '53555657595a5b5c5d5e5f63656667696a6b6c6d6e6f7172737475767778797a7b7c7d7e7f878b8d8e8f93959697999a9b9c9d9e9fa3a5a6a7a9aaab'
                 'acadaeafb1b2b3b4b5b6b7b8b9babbbcbdbebfc3c5c6c7c9cacbcccdcecfd1d2d3d4d5d6d7d8d9dadbdcdddedfe1e2e3e4e5e6e7e8e9eaebecedeeef'
                 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff';
    ELSIF code = 5 THEN
        starts := '{0,1024,2560,2816,3712,3928,3934}';
        lengths := '{2,4,5,7,10,11,12}';
        before := '{0,1,7,9,37,91,94}';
        bytes := '\x000102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c4c80fd0e0171b1d1e1f272b2d2e2f33353637393a3b3c3d3e3f474b4d4e4f'
                 '53555657595a5b5c5d5e5f63656667696a6b6c6d6e6f7172737475767778797a7b7c7d7e7f878b8d8e8f93959697999a9b9c9d9e9fa3a5a6a7a9aaab'
                 'acadaeafb1b2b3b4b5b6b7b8b9babbbcbdbebfc3c5c6c7c9cacbcccdcecfd1d2d3d4d5d6d7d8d9dadbdcdddedfe1e2e3e4e5e6e7e8e9eaebecedeeef'
                 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff';
    ELSIF code = 6 THEN
        starts := '{0,2048,2560,3328,3424,3824,3930}';
        lengths := '{1,4,5,7,8,11,12}';
        before := '{0,1,3,9,12,37,90}';
        bytes := '\x000102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e131516191a1c232526292a2c31323438434546'
                 '494a4c515254586162646870838586898a8c91929498a1a2a4a8b0c1c2c40f171b1d1e1f272b2d2e2f33353637393a3b3c3d3e3f474b4d4e4f535556'
                 '57595a5b5c5d5e5f63656667696a6b6c6d6e6f7172737475767778797a7b7c7d7e7f878b8d8e8f93959697999a9b9c9d9e9fa3a5a6a7a9aaabacadae'
                 'afb1b2b3b4b5b6b7b8b9babbbcbdbebfc3c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef'
                 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff';
    ELSIF code = 7 THEN
        starts := '{0,3072,3584,3712,3872,3882}';
        lengths := '{3,4,8,9,11,12}';
        before := '{0,6,8,16,36,41}';
        bytes := '\x0102040810204080030506090a0c1112141821222428304142444850608182848890a0c0070b0d0e130f151617191a1b1c1d1e1f23252627292a2b2c'
                 '2d2e2f3132333435363738393a3b3c3d3e3f43454647494a4b4c4d4e4f5152535455565758595a5b5c5d5e5f6162636465666768696a6b6c6d6e6f70'
                 '7172737475767778797a7b7c7d7e7f83858687898a8b8c8d8e8f9192939495969798999a9b9c9d9e9fa1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3'
                 'b4b5b6b7b8b9babbbcbdbebfc1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0'
                 'f1f2f3f4f5f6f7f8f9fafbfcfdfeff';
    ELSE
        RAISE EXCEPTION 'no code %', code;
    END IF;
    FOR i IN 0 .. n - 1 LOOP
        x := (((get_byte(b, at >> 3) << 16) | (get_byte(b, (at >> 3) + 1) << 8) | get_byte(b, (at >> 3) + 2)) >> (12 - (at & 7))) & 4095;
        range := width_bucket(x, starts);
        result := set_byte(result, i, get_byte(bytes, before[range] + ((x - starts[range]) >> (12 - lengths[range]))));
        at := at + lengths[range];
    END LOOP;
    RETURN result || int4send(at);
END $$;

-- One plane of n bits of version 2: how it is stored, and the position of that. In four bytes more the position behind it.
CREATE FUNCTION _promkeep.plane_2(b bytea, at int4, how int4, n int4) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    bytes int4 := (n + 7) / 8;
    masks int4 := (bytes + 7) / 8;
    mask bytea;
    nonzero int4;
    plane bytea;
BEGIN
    IF how <= 3 THEN
        RETURN _promkeep.plane(b, at, how, n) || int4send(at + _promkeep.plane_length(b, at, how, n));
    ELSIF how <= 10 THEN
        plane := _promkeep.coded(b, 8 * at, how - 4, bytes);
    ELSE
        mask := _promkeep.coded(b, 8 * at, ('{0,1,2,4,6}'::int4[])[how - 10], masks);
        at := _promkeep.last_int4(mask);
        mask := substr(mask, 1, masks);
        nonzero := bit_count(mask);
        plane := _promkeep.coded(b, at, 7, nonzero);
        at := _promkeep.last_int4(plane);
        RETURN _promkeep.scatter(mask, plane, 0, bytes) || int4send((at + 7) >> 3);
    END IF;
    at := _promkeep.last_int4(plane);
    RETURN substr(plane, 1, bytes) || int4send((at + 7) >> 3);
END $$;

-- The last four bytes, as a number.
CREATE FUNCTION _promkeep.last_int4(b bytea) RETURNS int4 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(b, length(b) - 3), 'hex'))::bit(32)::int4;

-- The unsigned integers of n residuals: planes and exceptions, width planes at a position. One more element is the position
-- after them; there may be further ones before it, so that it is the last.
CREATE FUNCTION _promkeep.dense(b bytea, at int4, n int4, width int4, exceptions bool, version int4) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    groups int4 := (n + 7) / 8;
    u int8[] := array_fill(0::int8, ARRAY[8 * groups]);
    kinds int4 := at;
    raw int4;
    how int4;
    plane bytea;
    planes bytea := '';
    s1 int4 := groups; s2 int4 := 2 * groups; s3 int4 := 3 * groups; s4 int4 := 4 * groups; s5 int4 := 5 * groups; s6 int4 := 6 * groups; s7 int4 := 7 * groups;
    i int4 := 1;
    x int8;
    r int8[];
BEGIN
    IF version = 1 THEN
        at := at + (width + 3) / 4;
        FOR p IN 0 .. width - 1 LOOP
            how := (get_byte(b, kinds + p / 4) >> (2 * (p % 4))) & 3;
            planes := planes || _promkeep.plane(b, at, how, n);
            at := at + _promkeep.plane_length(b, at, how, n);
        END LOOP;
    ELSIF width > 0 THEN
        raw := get_byte(b, at);
        IF raw > width THEN
            RAISE EXCEPTION '% raw planes of %', raw, width;
        END IF;
        kinds := at + 1;
        at := kinds + (width - raw + 1) / 2;
        planes := substr(b, at + 1, raw * groups);
        at := at + raw * groups;
        FOR p IN 0 .. width - raw - 1 LOOP
            how := (get_byte(b, kinds + p / 2) >> (4 * (p % 2))) & 15;
            plane := _promkeep.plane_2(b, at, how, n);
            planes := planes || substr(plane, 1, length(plane) - 4);
            at := _promkeep.last_int4(plane);
        END LOOP;
    END IF;
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

-- The n integers of a column at a position, and as one more element the position after its corrections, which it leaves out.
-- origin is what the base is relative to.
CREATE FUNCTION _promkeep.integers(b bytea, at int4, n int4, origin int8, version int4) RETURNS int8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
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
    ELSIF n > 1024 * version THEN
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

-- The n values of a block at a position; NULL stands for the stale marker.
CREATE FUNCTION _promkeep.floats(b bytea, at int4, n int4, version int4) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    scale int4 := get_byte(b, at) >> 4;
    ext int4 := CASE WHEN get_byte(b, at + 1) > 127 THEN get_byte(b, at + 2) ELSE 0 END;
    k int8[] := _promkeep.integers(b, at, n, 0, version);
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
        k := _promkeep.integers(b, at, n, 0, version);
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
CREATE OR REPLACE FUNCTION _promkeep.decode_row(data bytea, mint int8, maxt int8, OUT t int8[], OUT v float8[]) LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    b bytea := substr(data, 1); -- fetched once, should it lie out of line
    flags int4 := get_byte(b, 0) & 15;
    version int4 := get_byte(b, 0) >> 4;
    uniform bool := version = 2 AND (flags & 2) <> 0; -- all timestamps follow from the header
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
    IF version NOT BETWEEN 1 AND 2 OR flags > 7 THEN
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
