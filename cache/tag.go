package cache

import "hash/maphash"

// Tag names something in the source that answers depend on: a person, a place, a row. It is a number made from the
// thing's key. Two things may by chance share a number: then too much is forgotten, never too little.
type Tag uint64

// TagOf makes the tag of a thing. Its key should be a type of its own for each kind of thing, so that a person and a
// place with one name are two things. Numbers differ from process to process: nobody can aim at them.
func TagOf[T comparable](key T) Tag { return Tag(maphash.Comparable(tagSeed, key)) }

var tagSeed = maphash.MakeSeed()

// Depends ties the answers of a cache to what they were read from. The zero value ties them to nothing.
type Depends[K comparable, V any] struct {
	// Coherence is what knows of changes. Nil: answers end by their age alone.
	Coherence *Coherence
	// On are things that every answer depends on.
	On []Tag
	// Tags appends the things that one answer depends on, the answer that there is none (found false) included: value
	// is then what the load returned beside it. Nil: none but On. It must be quick and must not keep tags.
	Tags func(tags []Tag, key K, value V, found bool) []Tag
}
