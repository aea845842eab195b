package ask

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/sallyport/sallyport/internal/policy"
)

// NewAuthorizer makes the authorizer that a policy names, nil for none.
func NewAuthorizer(p *policy.Authorizer) *Authorizer {
	if p == nil {
		return nil
	}
	a := &Authorizer{Timeout: p.Timeout, TTL: p.TTL, NegativeTTL: p.NegativeTTL}
	switch {
	case p.Unix != "":
		a.Call = callUnix(p.Unix)
	case p.HTTP != "":
		a.Call = callHTTP(p.HTTP)
	default:
		a.Call = callExec(p.Exec)
	}
	return a
}

// callExec runs a program for each request: the request on its standard input,
// the answer on its standard output. What it started ends with it.
func callExec(argv []string) func(context.Context, Request) ([]byte, error) {
	return func(ctx context.Context, r Request) ([]byte, error) {
		line, err := Encode(r)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		ownGroup(cmd)
		cmd.WaitDelay = 50 * time.Millisecond // a child that keeps the pipe open
		cmd.Stdin = bytes.NewReader(line)
		var out limited
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("run %s: %w", argv[0], err)
		}
		return bytes.TrimSpace(out.b), nil
	}
}

// limited takes what an answer may be long, and fails beyond.
type limited struct{ b []byte }

func (l *limited) Write(b []byte) (int, error) {
	if len(l.b)+len(b) > MaxReply {
		return 0, fmt.Errorf("more than %d bytes", MaxReply)
	}
	l.b = append(l.b, b...)
	return len(b), nil
}

// callHTTP posts {"input": request}, as Open Policy Agent takes it.
func callHTTP(url string) func(context.Context, Request) ([]byte, error) {
	client := &http.Client{
		// Not through a proxy of the environment's; and who decides is not who
		// somebody redirects to.
		Transport:     &http.Transport{MaxIdleConnsPerHost: defaultAtOnce, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, r Request) ([]byte, error) {
		body, err := Encode(map[string]Request{"input": r})
		if err != nil {
			return nil, err
		}
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		q.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(q)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New("HTTP status " + resp.Status)
		}
		return data, err
	}
}

// callUnix sends a line and reads a line, each on a connection of its own.
func callUnix(path string) func(context.Context, Request) ([]byte, error) {
	return func(ctx context.Context, r Request) ([]byte, error) {
		line, err := Encode(r)
		if err != nil {
			return nil, err
		}
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if t, ok := ctx.Deadline(); ok {
			c.SetDeadline(t)
		}
		if _, err := c.Write(line); err != nil {
			return nil, err
		}
		data, err := bufio.NewReaderSize(io.LimitReader(c, MaxReply+1), MaxReply+1).ReadBytes('\n')
		if err == io.EOF && len(data) > 0 {
			err = nil
		}
		return bytes.TrimSpace(data), err
	}
}

// parseRuling reads an authorizer's answer: a reply, or what Open Policy Agent
// makes of one, {"decision_id": …, "result": true, false or a reply}.
func parseRuling(data []byte) (Reply, error) {
	fields, err := object(data)
	if err != nil {
		return Reply{}, err
	}
	result, wrapped := fields["result"]
	if !wrapped {
		return ParseReply(data)
	}
	var r Reply
	switch string(result) {
	case "true":
		r.Verdict = Allow
	case "false":
	default:
		if r, err = ParseReply(result); err != nil {
			return Reply{}, err
		}
	}
	if raw, ok := fields["decision_id"]; ok && r.DecisionID == "" {
		if err := json.Unmarshal(raw, &r.DecisionID); err != nil {
			return Reply{}, fmt.Errorf("decision_id: %w", err)
		}
		r.DecisionID = clip(r.DecisionID, maxReason)
	}
	return r, nil
}
