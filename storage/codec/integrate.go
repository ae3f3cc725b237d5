package codec

// The integers of a column, from its residuals: one pass over them does it all,
// the numbers of planes, kinds of columns and types of results each for
// themselves.

// What a residual of eight bits stands for, plainly or in zigzag.
var plainBytes, zigzagBytes = func() (plain, zz [256]int64) {
	for b := range plain {
		plain[b], zz[b] = int64(b), unzigzag(uint64(b))
	}
	return plain, zz
}()

// integrateBytes computes the integers of a column from residuals of at most
// eight bits, which nearly all columns have.
func integrateBytes[T number](c *column, k []T, u []byte) {
	u = u[:len(k)]
	table, unit := &plainBytes, int64(c.unit)
	if c.zigzag {
		table = &zigzagBytes
	}
	acc, slope := c.base, c.slope
	switch c.kind {
	case kindLevel:
		for i, b := range u {
			k[i] = T(acc + table[b]*unit)
		}
	case kindDelta:
		acc -= slope
		for i, b := range u {
			acc += slope + table[b]*unit
			k[i] = T(acc)
		}
	case kindDelta2:
		acc += table[u[0]] * unit
		k[0] = T(acc)
		for i := 1; i < len(u); i++ {
			slope += table[u[i]] * unit
			acc += slope
			k[i] = T(acc)
		}
	case kindLine:
		for i, b := range u {
			k[i] = T(acc + table[b]*unit)
			acc += slope
		}
	case kindXOR:
		for i, b := range u {
			acc ^= table[b] * unit
			k[i] = T(acc)
		}
	default:
		s := sliding(c.kind)
		a := slope << s
		acc += table[u[0]] * unit
		k[0] = T(acc)
		for i := 1; i < len(u); i++ {
			x := table[u[i]] * unit
			acc += a>>s + x
			a += x
			k[i] = T(acc)
		}
	}
}

// integratePairs computes the integers of a column from residuals of nine to
// sixteen bits.
func integratePairs[T number](c *column, k []T, low, high []byte) {
	low, high = low[:len(k)], high[:len(k)]
	sign, shift, unit := int64(0), uint(0), int64(c.unit)
	if c.zigzag {
		sign, shift = 1, 1
	}
	value := func(l, h byte) int64 {
		x := int64(l) | int64(h)<<8
		return (x>>(shift&63) ^ -(x & sign)) * unit
	}
	acc, slope := c.base, c.slope
	switch c.kind {
	case kindLevel:
		for i, l := range low {
			k[i] = T(acc + value(l, high[i]))
		}
	case kindDelta:
		acc -= slope
		for i, l := range low {
			acc += slope + value(l, high[i])
			k[i] = T(acc)
		}
	case kindDelta2:
		acc += value(low[0], high[0])
		k[0] = T(acc)
		for i := 1; i < len(low); i++ {
			slope += value(low[i], high[i])
			acc += slope
			k[i] = T(acc)
		}
	case kindLine:
		for i, l := range low {
			k[i] = T(acc + value(l, high[i]))
			acc += slope
		}
	case kindXOR:
		for i, l := range low {
			acc ^= value(l, high[i])
			k[i] = T(acc)
		}
	default:
		s := sliding(c.kind)
		a := slope << s
		acc += value(low[0], high[0])
		k[0] = T(acc)
		for i := 1; i < len(low); i++ {
			x := value(low[i], high[i])
			acc += a>>s + x
			a += x
			k[i] = T(acc)
		}
	}
}

// value returns what a residual stands for.
func (c *column) value(u uint64) int64 {
	if c.zigzag {
		return unzigzag(u) * int64(c.unit)
	}
	return int64(u) * int64(c.unit)
}

// integrate computes the integers of a column from its residuals.
func integrate[T number](c *column, k []T, u []uint64) {
	u = u[:len(k)]
	sign, shift, unit := int64(0), uint(0), int64(c.unit)
	if c.zigzag {
		sign, shift = 1, 1
	}
	value := func(x uint64) int64 { return (int64(x>>(shift&63)) ^ -(int64(x) & sign)) * unit }
	acc, slope := c.base, c.slope
	switch c.kind {
	case kindLevel:
		for i, x := range u {
			k[i] = T(acc + value(x))
		}
	case kindDelta:
		acc -= slope
		for i, x := range u {
			acc += slope + value(x)
			k[i] = T(acc)
		}
	case kindDelta2:
		acc += value(u[0])
		k[0] = T(acc)
		for i := 1; i < len(u); i++ {
			slope += value(u[i])
			acc += slope
			k[i] = T(acc)
		}
	case kindLine:
		for i, x := range u {
			k[i] = T(acc + value(x))
			acc += slope
		}
	case kindXOR:
		for i, x := range u {
			acc ^= value(x)
			k[i] = T(acc)
		}
	default:
		s := sliding(c.kind)
		a := slope << s
		acc += value(u[0])
		k[0] = T(acc)
		for i := 1; i < len(u); i++ {
			x := value(u[i])
			acc += a>>s + x
			a += x
			k[i] = T(acc)
		}
	}
}

// fewPart: of so many residuals at most one may be other than zero for
// integrateFew to be faster than integrate.
const fewPart = 6

// integrateFew computes the integers of a column of whose residuals only u, at the
// places at, are not zero: between them there is nothing but lines.
func integrateFew[T number](c *column, k []T, at []uint16, u []uint64) {
	u = u[:len(at)]
	acc, slope := c.base, c.slope
	from := 0 // what is before it is done
	switch c.kind {
	case kindLevel, kindLine:
		if c.kind == kindLevel {
			slope = 0
		}
		ramp(k, acc, slope)
		for j, i := range at {
			k[i] = T(acc + slope*int64(i) + c.value(u[j]))
		}
	case kindDelta:
		for j, i := range at {
			ramp(k[from:i], acc+slope*int64(from), slope)
			acc += c.value(u[j])
			from = int(i)
		}
		ramp(k[from:], acc+slope*int64(from), slope)
	case kindXOR:
		for j, i := range at {
			ramp(k[from:i], acc, 0)
			acc ^= c.value(u[j])
			from = int(i)
		}
		ramp(k[from:], acc, 0)
	default: // acc is the integer of from, and step what the next is above it
		shift := uint(0)
		if c.kind >= kindSliding {
			shift = sliding(c.kind)
		}
		a := slope << shift
		step := a >> shift
		for j, i := range at {
			x := c.value(u[j])
			if i == 0 {
				acc += x
				continue
			}
			ramp(k[from:i], acc, step)
			acc += step * int64(int(i)-from)
			from = int(i)
			acc += x
			a += x
			step = a >> shift
		}
		ramp(k[from:], acc, step)
	}
}
