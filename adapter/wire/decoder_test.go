package wire

// decoder is what V1 and V2 have in common.
type decoder interface {
	Reset([]byte) error
	Next() bool
	Err() error
	Index() int
	LabelCount() int
	Samples() int
	Histograms() int
	Exemplars() int
	SeriesErr() error
	Key() Key
	Labels([]Label, int) ([]Label, error)
	NextSample() bool
	Sample() Sample
	NextHistogram() bool
	Histogram() Histogram
	NextExemplar() bool
	Exemplar() Exemplar
	ExemplarLabels([]Label, int) ([]Label, error)
	NextMetadata() bool
	Metadata() (Metadata, bool)
	Foreign() bool
}

var (
	_ decoder = (*V1)(nil)
	_ decoder = (*V2)(nil)
)
