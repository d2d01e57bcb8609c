/** Starts the page. */
import { render } from "preact";
import { browserSurroundings } from "./browser.ts";
import { followTheme } from "./model/prefs.ts";
import "./style/base.css";
import "./style/controls.css";
import "./style/sidebar.css";
import "./style/room.css";
import "./style/message.css";
import "./style/dialogs.css";
import { App } from "./ui/app.tsx";

followTheme();
const root = document.getElementById("app");
if (root !== null) render(<App surroundings={browserSurroundings()} />, root);
