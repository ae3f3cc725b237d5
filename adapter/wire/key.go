package wire

import "hash/maphash"

// Key stands for a label set inside this process: 128 bits of keyed hash over the bytes a sender encodes it with. Equal keys
// mean equal labels, because the hash keys are drawn at random at start and nobody can aim for a collision. The
// reverse does not hold: the same labels in another order, encoding or protocol version have another key.
//
// A key is for caches only. It means nothing in another process or after a restart, knows no tenant, and is never stored.
//
// It is an alias, so that packages can agree on it without importing each other.
type Key = [2]uint64

// The two halves of a key are hashed under seeds of their own; so are the protocol versions, whose hashed bytes differ in meaning.
var (
	seedsV1      = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	seedsV2      = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	seedsSymbols = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
)

func keyOf(seeds *[2]maphash.Seed, b []byte) Key {
	return Key{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

// keyOfHalf hashes one half of the symbols' hashes of a 2.0 series.
func keyOfHalf(half int, hashes []byte) uint64 { return maphash.Bytes(seedsV2[half], hashes) }
