package promise

// WithSabotage has members be wrong in a way that a judge has to notice.
func (c Config) WithSabotage(judge string) Config {
	c.sabotage = judge
	return c
}

// Judges returns the names of all judges.
func Judges() (names []string) {
	for _, j := range judges {
		names = append(names, j.name)
	}
	return names
}

// Guarantee is a sentence of the guarantees of package rafthttp.
type Guarantee struct {
	Sentence string
	Judges   []string
	Exempt   string
}

// Guarantees returns all sentences that judges know of.
func Guarantees() (all []Guarantee) {
	for _, g := range guarantees {
		all = append(all, Guarantee{g.sentence, g.judges, g.exempt})
	}
	return all
}

// Elsewhere returns the sentences outside those sections that judges know of, by file.
func Elsewhere() map[string][]Guarantee {
	all := map[string][]Guarantee{}
	for _, g := range elsewhere {
		all[g.file] = append(all[g.file], Guarantee{g.sentence, g.judges, g.exempt})
	}
	return all
}

// GroupGuarantees returns all sentences about raft groups that judges know of.
func GroupGuarantees() (all []Guarantee) {
	for _, g := range groupGuarantees {
		all = append(all, Guarantee{g.sentence, g.judges, g.exempt})
	}
	return all
}
