# Everything a developer types. Prerequisites: Linux x86-64, Rust by rustup, build-essential, python3.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench gen clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\): ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 14

demo: ## the main job, from data to a prediction and its cost, on this machine
	@scripts/demo

test: ## all tests; starts what they need and stops it again
	@scripts/test

lint: ## format, clippy, dependency rules, ruff, layout of the code, generated files
	@scripts/lint

bench: ## speed against named peers, as ratios of one run
	@scripts/bench

gen: ## remake the generated reference under docs/
	@cargo xtask gen

clean: ## remove what building and the demo left in this clone
	@scripts/clean
