# For make: `include distcc.mk` at the top of a Makefile, after CC and CXX are set.
# `make DISTCC=` builds without it. `make -j$(distcc -j)` runs as many jobs as the hosts take.
DISTCC ?= distcc
ifneq ($(DISTCC),)
override CC := $(DISTCC) $(CC)
override CXX := $(DISTCC) $(CXX)
endif
