package testmember

import (
	"bufio"
	"io"
	"net/http"
)

// Conversation gives one answer to each request of a connection.
func Conversation(answers ...string) func(io.Writer) error {
	return func(c io.Writer) error {
		br := bufio.NewReader(c.(io.Reader))
		for i, answer := range answers {
			if i > 0 {
				if _, err := http.ReadRequest(br); err != nil {
					return err
				}
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return err
			}
		}
		return nil
	}
}
