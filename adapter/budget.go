package adapter

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// budget bounds the bytes that all requests hold together.
type budget struct {
	used  atomic.Int64
	limit int64
}

// take takes n bytes, unless they are more than is left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// retryAfter is a header value in seconds, at least 1, spread so that senders that were refused together do not come back
// together.
func retryAfter(d time.Duration) string {
	s := max(1, int((d+time.Second-1)/time.Second))
	return strconv.Itoa(s + rand.IntN(s+1))
}
