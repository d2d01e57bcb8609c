import { Command } from "commander";
import { addStart } from "../cli/start.ts";
const p = new Command("x"); addStart(p); await p.parseAsync();
