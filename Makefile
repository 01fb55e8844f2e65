# What people and CI type. Everything that a machine needs is installed by the targets themselves.
.PHONY: help setup build deb demo demo-shell demo-clean test check lints documentation units simulated scenarios test-storage bench soak mutants clean

CARGO ?= cargo
DEB = target/debian/convoke.deb

help:
	@echo 'make demo         three real systemd nodes run PostgreSQL, lose one, fence it and go on (about 10 minutes at first)'
	@echo 'make demo-shell   a root shell on the first node of the demo'
	@echo 'make demo-clean   takes the demo away'
	@echo 'make test         format, lints, docs, units, scripts, simulated clusters, and the scenarios on real nodes'
	@echo 'make check        the part of `make test` that needs no nodes'
	@echo 'make scenarios    the part that does; S=failover for one topic, S="galera postgresql rabbitmq stack" for those of real servers'
	@echo 'make test-storage fence_scsi, fence_mpath and SCSI-3 reservations on emulated machines; slow, and no part of `make test`'
	@echo 'make bench        the scenarios that measure, judged by the goals themselves'
	@echo 'make soak         simulated clusters, seed after seed; tests/sim/README.md says how'
	@echo 'make mutants      whether the scripts of policy notice each change of it; F="plan/order.rs room.rs" for other files'
	@echo 'make deb          the Debian package'

setup:
	@tests/lab/setup

# One build of the programs for packages, demo and scenarios.
build:
	@echo '== building convoked, convoke and convoke-generator'
	@$(CARGO) build --release -p bridge -p units --bins

deb: build
	@packaging/cargo-deb
	@$(CARGO) deb --no-build --no-strip -p bridge --output $(DEB)

demo: setup deb
	@echo '== building the demo'
	@$(CARGO) build --release -p lab -p demo
	@target/release/demo run

demo-shell:
	@target/release/demo shell

demo-clean:
	@target/release/demo clean

check: lints documentation units simulated

lints:
	@echo '== format'
	@$(CARGO) fmt --all --check
	@echo '== lints'
	@$(CARGO) clippy --workspace --all-targets -- -D warnings

documentation:
	@echo '== documentation'
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --quiet

units:
	@echo '== units, scripts and random histories'
	@$(CARGO) test --quiet

simulated:
	@echo '== simulated clusters'
	@$(CARGO) test --release --quiet -p sim

scenarios: setup deb
	@echo '== scenarios on real nodes'
	@$(CARGO) build -p lab
	@CONVOKE_DEB=$(CURDIR)/$(DEB) tests/scenarios/all $(S)

test: check scenarios

# Emulated machines with SCSI disks, which the nodes of the lab have not; tests/storage/README.md says what is shown.
test-storage: deb
	@tests/storage/setup
	@echo '== disks with reservations, on emulated machines'
	@CONVOKE_DEB=$(CURDIR)/$(DEB) tests/storage/run

# The scenarios that measure, judged by the goals themselves; docs/measurements.md says what they showed.
bench:
	@CONVOKE_STRICT=1 $(MAKE) --no-print-directory scenarios S='cases failover network idle'

# 10,000 seeds unless SIM_FROM and SIM_COUNT, or SIM_SEED, say otherwise.
soak:
	@$(CARGO) run --release --quiet -p sim --bin soak

# All that permits and fences rest on, unless F names other files of policy/src; policy/MUTANTS.md says what was found.
PROMISES = 'apply/**' permit.rs evidence.rs fence.rs level.rs expiry.rs drill.rs watchdog.rs maintenance.rs
mutants:
	@tests/cargo-mutants
	@nice -n 19 $(CARGO) mutants -p policy -o target $(foreach file,$(or $(F),$(PROMISES)),-f policy/src/$(file))

clean: demo-clean
	@$(CARGO) clean
