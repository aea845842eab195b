package seatbelt

// RuleMove is the rule of what keeps protected names from being moved away.
const RuleMove = "seatbelt-move"
