package codec

// integrateBytes computes the integers of a column of unit 1 from residuals of
// at most eight bits, which nearly all columns have: one pass does it all.
func (c *column) integrateBytes(k []int64, u []byte) {
	u = u[:len(k)]
	sign := int64(0) // masks what unzigzag takes off
	shift := uint(0)
	if c.zigzag {
		sign, shift = 1, 1
	}
	value := func(b byte) int64 { return int64(b)>>(shift&63) ^ -(int64(b) & sign) }
	acc := c.base
	switch c.kind {
	case kindLevel:
		for i, b := range u {
			k[i] = acc + value(b)
		}
	case kindDelta:
		acc -= c.slope
		for i, b := range u {
			acc += c.slope + value(b)
			k[i] = acc
		}
	case kindDelta2:
		acc += value(u[0])
		k[0] = acc
		d := c.slope
		for i := 1; i < len(u); i++ {
			d += value(u[i])
			acc += d
			k[i] = acc
		}
	case kindLine:
		for i, b := range u {
			k[i] = acc + value(b)
			acc += c.slope
		}
	case kindXOR:
		for i, b := range u {
			acc ^= value(b)
			k[i] = acc
		}
	default:
		s := sliding(c.kind)
		a := c.slope << s
		acc += value(u[0])
		k[0] = acc
		for i := 1; i < len(u); i++ {
			x := value(u[i])
			acc += a>>s + x
			a += x
			k[i] = acc
		}
	}
}

// integratePairs computes the integers of a column from residuals of nine to
// sixteen bits.
func (c *column) integratePairs(k []int64, low, high []byte) {
	low, high = low[:len(k)], high[:len(k)]
	sign, shift, unit := int64(0), uint(0), int64(c.unit)
	if c.zigzag {
		sign, shift = 1, 1
	}
	value := func(l, h byte) int64 {
		x := int64(l) | int64(h)<<8
		return (x>>(shift&63) ^ -(x & sign)) * unit
	}
	acc := c.base
	switch c.kind {
	case kindLevel:
		for i, l := range low {
			k[i] = acc + value(l, high[i])
		}
	case kindDelta:
		acc -= c.slope
		for i, l := range low {
			acc += c.slope + value(l, high[i])
			k[i] = acc
		}
	case kindDelta2:
		acc += value(low[0], high[0])
		k[0] = acc
		d := c.slope
		for i := 1; i < len(low); i++ {
			d += value(low[i], high[i])
			acc += d
			k[i] = acc
		}
	case kindLine:
		for i, l := range low {
			k[i] = acc + value(l, high[i])
			acc += c.slope
		}
	case kindXOR:
		for i, l := range low {
			acc ^= value(l, high[i])
			k[i] = acc
		}
	default:
		s := sliding(c.kind)
		a := c.slope << s
		acc += value(low[0], high[0])
		k[0] = acc
		for i := 1; i < len(low); i++ {
			x := value(low[i], high[i])
			acc += a>>s + x
			a += x
			k[i] = acc
		}
	}
}

// integrate computes the integers of a column from its residuals.
func (c *column) integrate(k []int64, u []uint64) {
	u = u[:len(k)]
	sign, shift, unit := int64(0), uint(0), int64(c.unit)
	if c.zigzag {
		sign, shift = 1, 1
	}
	value := func(x uint64) int64 { return (int64(x>>(shift&63)) ^ -(int64(x) & sign)) * unit }
	acc := c.base
	switch c.kind {
	case kindLevel:
		for i, x := range u {
			k[i] = acc + value(x)
		}
	case kindDelta:
		acc -= c.slope
		for i, x := range u {
			acc += c.slope + value(x)
			k[i] = acc
		}
	case kindDelta2:
		acc += value(u[0])
		k[0] = acc
		d := c.slope
		for i := 1; i < len(u); i++ {
			d += value(u[i])
			acc += d
			k[i] = acc
		}
	case kindLine:
		for i, x := range u {
			k[i] = acc + value(x)
			acc += c.slope
		}
	case kindXOR:
		for i, x := range u {
			acc ^= value(x)
			k[i] = acc
		}
	default:
		s := sliding(c.kind)
		a := c.slope << s
		acc += value(u[0])
		k[0] = acc
		for i := 1; i < len(u); i++ {
			x := value(u[i])
			acc += a>>s + x
			a += x
			k[i] = acc
		}
	}
}
