# Compiles each of $(SOURCES), which are below $(TREE), to an object in the working directory.
#
#   make -f one-object-each.mk TREE=../src SOURCES="a.c b/c.c" COMPILER=gcc FLAGS=-O2 LAUNCHER=distcc

OBJECTS := $(addsuffix .o,$(basename $(SOURCES)))

.PHONY: all
all: $(OBJECTS)

define rule
$(basename $(1)).o: $(TREE)/$(1)
	@mkdir -p $$(@D)
	$$(LAUNCHER) $$(COMPILER) $$(FLAGS) $$(DEFINES) -I$$(TREE) -MD -c $$< -o $$@
endef
$(foreach source,$(SOURCES),$(eval $(call rule,$(source))))
