package adapter

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/klauspost/compress/s2"
)

// A buffer larger than this is not kept for the next request.
const maxPooledBytes = 4 << 20

// maxSnappyRatio is more than what the block format can reach: its best element makes 64 bytes of 3.
const maxSnappyRatio = 22

// failure is an answer that is not a success.
type failure struct {
	code  int
	why   why
	text  string
	after time.Duration // for Retry-After, if above 0
	// unread: the body was not read to its end, so the connection cannot be used again.
	unread bool
}

func fail(code int, why why, format string, args ...any) *failure {
	return &failure{code: code, why: why, text: fmt.Sprintf(format, args...)}
}

// overloaded answers a request that would come to hold more bytes. One that would hold all alone never can be taken.
func (h *WriteHandler) overloaded(rq *request, more int64) *failure {
	limit := h.opts.Limits.InFlightBytes
	if rq.taken+more > limit {
		return fail(http.StatusRequestEntityTooLarge, whyMemory, "the request takes more than the limit of %d bytes of memory that requests may hold together", limit)
	}
	f := fail(http.StatusServiceUnavailable, whyInFlight, "overloaded: requests hold the limit of %d bytes", limit)
	f.after = time.Second
	return f
}

// read reads the body into rq.body, as far as limits and the read timeout let it.
func (h *WriteHandler) read(w http.ResponseWriter, r *http.Request, rq *request) *failure {
	limit := h.opts.Limits.BodyBytes
	tooLarge := func() *failure {
		f := fail(http.StatusRequestEntityTooLarge, whyBodySize, "the body is larger than the limit of %d bytes", limit)
		f.unread = true
		return f
	}
	if r.ContentLength > limit {
		return tooLarge()
	}
	// The deadline is for the body alone: when it passed while the samples are committed, the server would take the
	// client for gone. Writers that know no deadlines are those of tests.
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(h.opts.ReadTimeout))
	defer func() { _ = ctl.SetReadDeadline(time.Time{}) }()

	if cap(rq.body) == 0 {
		rq.body = make([]byte, 0, 64<<10)
	}
	rq.body = rq.body[:0]
	for {
		if len(rq.body) == cap(rq.body) {
			// Grows with what has come in, not with what was announced.
			rq.body = append(rq.body, 0)[:len(rq.body)]
		}
		n, err := r.Body.Read(rq.body[len(rq.body):cap(rq.body)])
		if !rq.take(int64(n)) {
			f := h.overloaded(rq, int64(n))
			f.unread = true
			return f
		}
		rq.body = rq.body[:len(rq.body)+n]
		if int64(len(rq.body)) > limit {
			return tooLarge()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			// A body that stops coming is a fault that may pass.
			f := fail(http.StatusServiceUnavailable, whyBody, "reading the body, after %d bytes: %v", len(rq.body), err)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				f = fail(http.StatusServiceUnavailable, whyBody, "the body did not come within %v", h.opts.ReadTimeout)
			}
			f.after, f.unread = time.Second, true
			return f
		}
	}
}

// decompress decompresses snappy's block format, which s2 reads too, in less time than golang/snappy: rq.body into rq.decoded, whose length is checked before there is memory for it.
func (h *WriteHandler) decompress(rq *request) *failure {
	n, err := s2.DecodedLen(rq.body)
	if err != nil {
		return fail(http.StatusBadRequest, whySnappy, "the body is not in snappy's block format: %v", err)
	}
	if limit := h.opts.Limits.DecodedBytes; int64(n) > limit {
		return fail(http.StatusRequestEntityTooLarge, whyDecodedSize, "the body has %d bytes when decompressed, the limit is %d", n, limit)
	}
	if n > len(rq.body)*maxSnappyRatio {
		return fail(http.StatusBadRequest, whySnappy, "the body is not in snappy's block format: its %d bytes cannot make the %d it promises",
			len(rq.body), n)
	}
	if !rq.take(int64(n)) {
		return h.overloaded(rq, int64(n))
	}
	if cap(rq.decoded) < n {
		rq.decoded = make([]byte, n+n/8)
	}
	if rq.decoded, err = s2.Decode(rq.decoded[:cap(rq.decoded)], rq.body); err != nil {
		rq.decoded = rq.decoded[:0]
		return fail(http.StatusBadRequest, whySnappy, "the body is not in snappy's block format: %v", err)
	}
	return nil
}
