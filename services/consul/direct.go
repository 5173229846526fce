package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// direct asks what the API's client has no way to: a path with parameters of its
// own, in which it would escape the question mark, or a question with a body. The
// path is escaped already; a nil body or answer is none.
func (c *Client) direct(ctx context.Context, method, path string, asked, out any) (Answer, error) {
	token, err := c.token.get()
	if err != nil {
		return Answer{}, err
	}
	var body []byte
	if asked != nil {
		if body, err = json.Marshal(asked); err != nil {
			return Answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*waitGrace)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if asked != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("X-Consul-Token", token)
	}
	if c.auth != nil {
		request.SetBasicAuth(c.auth.Username, c.auth.Password)
	}
	response, err := c.bare.Do(request)
	if err != nil {
		return Answer{}, failed(ctx, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return Answer{}, failed(ctx, path, err)
	case response.StatusCode != http.StatusOK:
		return Answer{}, failed(ctx, path, api.StatusError{Code: response.StatusCode, Body: string(text)})
	}
	answer := Answer{
		DefaultPolicy: response.Header.Get("X-Consul-Default-Acl-Policy"),
		Filtered:      response.Header.Get("X-Consul-Results-Filtered-By-Acls") == "true",
		Anonymous:     token == "",
	}
	if out == nil {
		return answer, nil
	}
	return answer, json.Unmarshal(text, out)
}
