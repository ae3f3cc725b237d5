package wire

import "encoding/binary"

// layout says which fields of a message hold messages, and which hold packed numbers.
type layout struct {
	messages map[uint64]*layout
	varints  map[uint64]bool
	doubles  map[uint64]bool
}

var (
	layoutSpan      = &layout{}
	layoutHistogram = &layout{
		messages: map[uint64]*layout{8: layoutSpan, 11: layoutSpan},
		varints:  map[uint64]bool{9: true, 12: true},
		doubles:  map[uint64]bool{10: true, 13: true, 16: true},
	}
	layoutV1 = &layout{messages: map[uint64]*layout{
		1: {messages: map[uint64]*layout{
			1: {}, 2: {}, 3: {messages: map[uint64]*layout{1: {}}}, 4: layoutHistogram,
		}},
		3: {},
	}}
	layoutV2 = &layout{messages: map[uint64]*layout{
		5: {
			messages: map[uint64]*layout{2: {}, 3: layoutHistogram, 4: {varints: map[uint64]bool{1: true}}, 5: {}},
			varints:  map[uint64]bool{1: true},
		},
	}}
)

// scramble writes a message again in another way that is just as legal: fields of different numbers change places, packed numbers
// come one by one or in several packs, unknown fields are strewn in, and varints are longer than they need to be.
func (r random) scramble(msg []byte, l *layout) []byte {
	var fields [][]byte
	var numbers []uint64
	add := func(number uint64, field []byte) {
		numbers = append(numbers, number)
		fields = append(fields, field)
	}
	for i := 0; i < len(msg); {
		t, j := tag(msg, i)
		end := skip(msg, j, t)
		if j < 0 || end < 0 {
			panic("not a message")
		}
		body := msg[j:end]
		number := t >> 3
		if t&7 == typeBytes {
			start, _ := span(msg, j)
			body = msg[start:end]
			if sub := l.messages[number]; sub != nil {
				body = r.scramble(body, sub)
			}
			if l.varints[number] || l.doubles[number] {
				r.unpack(number, body, l.doubles[number], add)
				i = end
				continue
			}
			body = append(r.varint(uint64(len(body))), body...)
		}
		add(number, append(r.varint(t), body...))
		i = end
	}
	for range r.IntN(3) {
		number := 100 + r.Uint64N(1<<20)
		var field []byte
		switch r.IntN(4) {
		case 0:
			field = append(r.varint(number<<3|typeVarint), r.varint(r.Uint64())...)
		case 1:
			field = append(r.varint(number<<3|typeFixed64), "12345678"...)
		case 2:
			field = append(r.varint(number<<3|typeFixed32), "1234"...)
		case 3:
			text := r.text(20)
			field = append(append(r.varint(number<<3|typeBytes), r.varint(uint64(len(text)))...), text...)
		}
		add(number, field)
	}
	// Exchange neighbours, but none of the same number: their order has a meaning.
	for range 3 * len(fields) {
		if len(fields) < 2 || r.IntN(2) == 0 {
			continue
		}
		if i := r.IntN(len(fields) - 1); numbers[i] != numbers[i+1] {
			fields[i], fields[i+1] = fields[i+1], fields[i]
			numbers[i], numbers[i+1] = numbers[i+1], numbers[i]
		}
	}
	var out []byte
	for _, f := range fields {
		out = append(out, f...)
	}
	return out
}

func (r random) unpack(number uint64, body []byte, doubles bool, add func(uint64, []byte)) {
	size := func(i int) int {
		if doubles {
			return i + 8
		}
		_, next := uvarint(body, i)
		return next
	}
	for i := 0; i < len(body); {
		end := size(i)
		if r.IntN(2) == 0 {
			typ := uint64(typeVarint)
			if doubles {
				typ = typeFixed64
			}
			add(number, append(r.varint(number<<3|typ), body[i:end]...))
			i = end
			continue
		}
		for end < len(body) && r.IntN(3) > 0 {
			end = size(end)
		}
		add(number, append(append(r.varint(number<<3|typeBytes), r.varint(uint64(end-i))...), body[i:end]...))
		i = end
	}
}

// varint encodes v, now and then with more bytes than are needed.
func (r random) varint(v uint64) []byte {
	b := binary.AppendUvarint(nil, v)
	for r.IntN(20) == 0 && len(b) < 9 {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return b
}
