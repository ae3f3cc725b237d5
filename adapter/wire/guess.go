package wire

import (
	"encoding/binary"
	"math"
)

// Extent is how many bytes the labels of a series take in a request, for [V1.NextGuessed]; 0 if that is not known, or they are not in
// one piece.
type Extent uint32

// Extent returns the extent of the labels of the current series.
func (d *V1) Extent() Extent {
	if n := d.labelsEnd - d.labelsStart; !d.scattered && n <= math.MaxUint32 {
		return Extent(n)
	}
	return 0
}

// sampleField is a field with one sample, as every sender writes it: its tag and length, the value behind a tag, and behind another
// tag a timestamp between 1971 and 2109, which takes six bytes.
const sampleField = 2 + 1 + 8 + 1 + 6

// NextGuessed moves to the next time series if its labels are those with the key, which have the extent, and it has one float sample and
// nothing else. Otherwise it stays where it is, and Next does the work. Senders send the same series in the same order again and
// again, so a guess is nearly always right; then no label is looked at one by one: what is hashed to the key was read before.
//
// Of the series that it moved to there are only the Index, the Labels and the sample.
func (d *V1) NextGuessed(key Key, extent Extent) (Sample, bool) {
	at, b := d.at, d.buf
	if extent == 0 || d.err != nil || len(b)-at < 4+sampleField || b[at] != 1<<3|typeBytes {
		return Sample{}, false
	}
	// The length of the time series, of one or two bytes, must be that of the labels and the sample.
	size, start := int(b[at+1]), at+2
	if size >= 0x80 {
		size, start = size&0x7f|int(b[at+2])<<7, at+3
		if size >= 1<<14 {
			return Sample{}, false
		}
	}
	end := start + size
	if size != int(extent)+sampleField || end > len(b) {
		return Sample{}, false
	}
	f := b[end-sampleField : end : end]
	if f[0] != 2<<3|typeBytes || f[1] != sampleField-2 || f[2] != 1<<3|typeFixed64 || f[11] != 2<<3|typeVarint {
		return Sample{}, false
	}
	// The varint: the highest bit of each byte but the last is set. Eight bytes are read for six: those before are of the value.
	const more, bits7 = 0x0080_8080_8080_0000, 0x7f
	v := binary.LittleEndian.Uint64(f[10:])
	if v&(more|0x80<<56) != more {
		return Sample{}, false
	}
	t := v>>16&bits7 | v>>17&(bits7<<7) | v>>18&(bits7<<14) | v>>19&(bits7<<21) | v>>20&(bits7<<28) | v>>21&(bits7<<35)
	d.guess, d.guessStart, d.guessEnd = keyOf(&seedsV1, b[start:end-sampleField]), start, end-sampleField
	if d.guess != key {
		return Sample{}, false
	}
	d.index++
	d.any = true
	d.at, d.end = end, end
	d.labelsStart, d.labelsEnd, d.scattered = start, end-sampleField, false
	return Sample{T: int64(t), V: math.Float64frombits(binary.LittleEndian.Uint64(f[3:]))}, true
}
