import { modes } from "../support/parley.ts";
import { devicesSuite } from "./devices.ts";

for (const [mode, start] of modes.entries()) devicesSuite(mode, start);
