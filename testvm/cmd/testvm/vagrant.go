package main

import "context"

func runVagrant(ctx context.Context, args []string) error { return nil }
func payload(ctx context.Context, args []string) error    { return nil }
