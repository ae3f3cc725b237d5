package head

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// block holds samples of one series that are not flushed yet, in order of acceptance. It is 256 bytes without a pointer: the
// garbage collector never looks into blocks, and they are used again and again.
type block struct {
	base int64  // ms, time of the first sample
	next uint32 // the block that follows, 0 if none does
	n    uint32 // samples; of the last block of open it is Series.tailLen that counts
	// A sample is three words: ms since the sample before it (0 for the first), as an int32, and the value, its lower half first.
	data [3 * blockSamples]uint32
}

const (
	blockSamples = 20
	blockBytes   = 256
	slabBits     = 8
	slabBlocks   = 1 << slabBits
)

func (b *block) put(i uint32, delta int32, v float64) {
	raw := math.Float64bits(v)
	d := b.data[3*i : 3*i+3 : 3*i+3]
	d[0], d[1], d[2] = uint32(delta), uint32(raw), uint32(raw>>32)
}

// setValue replaces the value of a sample.
func (b *block) setValue(i uint32, v float64) {
	raw := math.Float64bits(v)
	d := b.data[3*i : 3*i+3 : 3*i+3]
	d[1], d[2] = uint32(raw), uint32(raw>>32)
}

const lineBytes = 64

// hint says in which cache line the sample i of a block lies. The lines of all blocks are numbered through.
func hint(number uint32, i uint8) uint32 {
	i = min(i, blockSamples-1)
	return number*(blockBytes/lineBytes) + (uint32(unsafe.Offsetof(block{}.data))+12*uint32(i))/lineBytes
}

// prefetch asks for the cache line of a hint. The block need not be in use any more.
func (p *blocks) prefetch(hint uint32) {
	b := p.at(hint / (blockBytes / lineBytes))
	prefetch(unsafe.Add(unsafe.Pointer(b), hint%(blockBytes/lineBytes)*lineBytes))
}

// blocks gives out blocks by number; 0 is none. What is given back is given out again. A block belongs to whom it was
// given; at may be called by anyone who knows that the block is in use.
type blocks struct {
	used  atomic.Int64 // bytes of blocks given out
	slabs atomic.Pointer[[]*[slabBlocks]block]

	mu     sync.Mutex // guards what follows
	free   []uint64   // a bit for each block
	spare  int        // bits that are set
	cursor int        // where in free to look first
}

func (p *blocks) at(number uint32) *block {
	return &(*p.slabs.Load())[number>>slabBits][number&(slabBlocks-1)]
}

// take gives out the next free block: series that are written one after another get blocks that lie one after another.
func (p *blocks) take(base int64) uint32 {
	p.mu.Lock()
	if p.spare == 0 {
		p.grow()
	}
	for p.free[p.cursor] == 0 {
		if p.cursor++; p.cursor == len(p.free) {
			p.cursor = 0
		}
	}
	bit := bits.TrailingZeros64(p.free[p.cursor])
	p.free[p.cursor] &^= 1 << bit
	p.spare--
	number := uint32(p.cursor*64 + bit)
	p.mu.Unlock()
	b := p.at(number)
	b.base, b.next, b.n = base, 0, 0
	p.used.Add(blockBytes)
	return number
}

func (p *blocks) grow() {
	var slabs []*[slabBlocks]block
	if old := p.slabs.Load(); old != nil {
		slabs = *old
	}
	p.cursor = len(p.free)
	for range slabBlocks / 64 {
		p.free = append(p.free, math.MaxUint64)
	}
	p.spare += slabBlocks
	if len(slabs) == 0 {
		p.free[0] &^= 1 // 0 is none
		p.spare--
	}
	// Readers of the slice before see no further than its length.
	slabs = append(slabs, new([slabBlocks]block))
	p.slabs.Store(&slabs)
}

// give returns the block and those that follow it.
func (p *blocks) give(first uint32) {
	if first == 0 {
		return
	}
	n := 0
	p.mu.Lock()
	for number := first; number != 0; number = p.at(number).next {
		p.free[number/64] |= 1 << (number % 64)
		n++
	}
	p.spare += n
	p.mu.Unlock()
	p.used.Add(int64(-n) * blockBytes)
}

// read appends the samples of a block and of those that follow it to dst.
func (p *blocks) read(dst []Sample, first uint32) []Sample { return p.readOpen(dst, first, 0, 0) }

// readOpen is read for blocks of which the last, tail, has only fill samples yet.
func (p *blocks) readOpen(dst []Sample, first, tail, fill uint32) []Sample {
	for number := first; number != 0; {
		b := p.at(number)
		n, next := b.n, b.next
		if number == tail {
			n, next = fill, 0
		}
		t := b.base
		for d := b.data[:3*n]; len(d) >= 3; d = d[3:] {
			t += int64(int32(d[0]))
			dst = append(dst, Sample{t, math.Float64frombits(uint64(d[1]) | uint64(d[2])<<32)})
		}
		number = next
	}
	return dst
}

// len is how many samples readOpen reads.
func (p *blocks) len(first, tail, fill uint32) (n int) {
	for number := first; number != 0; {
		b := p.at(number)
		if number == tail {
			return n + int(fill)
		}
		n += int(b.n)
		number = b.next
	}
	return n
}

// write puts samples into new blocks, and returns the first.
func (p *blocks) write(samples []Sample) uint32 {
	var s Series
	for _, x := range samples {
		s.put(p, x.T, x.V)
	}
	return s.close(p)
}

// bounds of the times in blocks that are in order, in ms.
func (p *blocks) bounds(first uint32) (mint, maxt int64) {
	mint = p.at(first).base
	for number := first; number != 0; {
		b := p.at(number)
		if number = b.next; number == 0 {
			maxt = b.base
			for i := range b.n {
				maxt += int64(int32(b.data[3*i]))
			}
		}
	}
	return mint, maxt
}
