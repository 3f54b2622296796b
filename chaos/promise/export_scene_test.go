package promise

// Scenes returns the names of all scenes.
func Scenes() (names []string) {
	for _, s := range scenes() {
		names = append(names, s.name)
	}
	return names
}
