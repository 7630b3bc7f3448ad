/* Calibration of vector sets for VSIM ... RECALL, in the background. On the keyspace thread. */
#ifndef KITH_ENGINE_VSET_CALIBRATE_H
#define KITH_ENGINE_VSET_CALIBRATE_H

#include "engine/vset.h"

/* A search has named a recall: from now on the set is calibrated and kept so. */
void kith_vset_calibrate_begin(struct kith_vset *vset);
/* From the driver's idle calls. Short. */
void kith_vset_calibrate_idle(struct kith_engine *engine);

#endif
