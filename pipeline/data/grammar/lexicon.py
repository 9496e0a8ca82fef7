"""The words of the grammar: what each domain talks about, and how one feels about it."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, BAD = 1, -1


@dataclass(frozen=True)
class Domain:
    """What reviews of one kind of thing speak of."""

    things: str  # what is reviewed
    origins: str  # preposition_noun, where things come from or what they are about
    parts: str  # parts of it; a plural ends in s; two words are a compound, joined by _
    people: str
    places: str  # preposition_noun, where parts and people are found
    use: str  # what a guest, reader or buyer neutrally does with things
    make: str  # what people do to parts, well or badly
    good: str
    bad: str


DOMAINS = (
    Domain(
        "film comedy thriller documentary sequel drama picture musical western",
        "about_war from_studio on_poster",
        "plot script soundtrack ending dialogue story twist editing premise scenes songs jokes costumes "
        "car_chase crime_story "
        "opening_scene stunts effects chorus_line",
        "director actor villain actress composer hero heroine singers dancers lead_actor",
        "in_finale on_screen behind_camera from_studio in_opening of_story in_trailer",
        "watch rent see discuss stream",
        "film write edit stage perform record",
        "funny gripping witty touching suspenseful hilarious inventive clever moving",
        "predictable tedious wooden corny dull boring humourless muddled pretentious",
    ),
    Domain(
        "meal dinner breakfast lunch supper feast",
        "at_harbour near_market after_concert",
        "soup salad curry risotto dessert steak bread sauce wine coffee fish_soup lemon_tart goat_cheese "
        "dumplings noodles "
        "pancakes mushrooms onion_rings cheese_board",
        "chef waiter waitress cook barista hostess owner waiters cooks",
        "from_kitchen on_terrace at_counter on_menu in_corner from_grill by_window",
        "order share try taste choose",
        "cook season serve prepare roast grill",
        "tasty tender fresh delicious juicy fragrant crisp creamy flavourful",
        "bland greasy soggy salty stale watery rubbery burnt tasteless",
    ),
    Domain(
        "book novel memoir biography essay anthology atlas cookbook",
        "about_lighthouse from_library by_door",
        "plot prologue ending prose chapter translation spelling cover index chapters footnotes poems essays dialogues "
        "ghost_story travel_letters book_cover murder_case",
        "author narrator heroine detective poet translator editor illustrator characters writers",
        "on_cover in_preface of_trilogy in_middle from_library in_appendix of_story",
        "read borrow finish open discuss",
        "write translate edit illustrate phrase research",
        "gripping witty wise lucid thoughtful poetic absorbing lively moving",
        "tedious pretentious verbose clumsy confusing dull predictable preachy shallow",
    ),
    Domain(
        "phone camera laptop kettle printer vacuum watch lamp toaster tablet speaker drill",
        "from_shop in_catalogue on_shelf",
        "screen battery keyboard hinge charger zoom remote microphone display manual buttons speakers battery_life "
        "power_cord touch_screen menus headphones carry_case",
        "seller technician salesman engineer designer installer engineers helpers",
        "on_side in_box under_lid of_set on_back from_factory near_handle",
        "buy test unpack charge install",
        "design build assemble pack finish paint",
        "reliable sturdy handy fast durable accurate quiet compact bright",
        "flimsy unreliable sluggish clunky fragile noisy defective shoddy blurry",
    ),
    Domain(
        "hotel hostel guesthouse lodge resort suite villa apartment",
        "near_station by_river behind_church",
        "room bed lobby pool balcony bathroom garden view mattress sauna towels pillows rooms corridors "
        "breakfast_buffet "
        "roof_terrace room_service swimming_pool",
        "receptionist manager porter owner landlady host cleaners maids concierge",
        "in_lobby on_roof near_lift on_corridor behind_reception by_harbour in_annexe",
        "book visit choose inspect rent",
        "furnish decorate tidy arrange manage light",
        "clean cosy comfortable quiet spacious bright peaceful elegant spotless",
        "dirty noisy cramped shabby dusty damp mouldy gloomy filthy",
    ),
    Domain(
        "concert exhibition museum show festival recital play gallery",
        "in_park at_castle near_bridge",
        "programme encore sculpture lighting stage acoustics paintings portraits ballads string_quartet gift_shop "
        "audio_guide light_show costumes melodies",
        "singer pianist curator guide conductor drummer violinist dancers guides",
        "on_stage at_entrance in_hall on_poster from_orchestra in_foyer by_exit",
        "visit attend watch see review",
        "perform light arrange present restore rehearse",
        "lively inspiring graceful moving stirring imaginative captivating vivid",
        "dull shrill chaotic monotonous overcrowded amateurish lifeless boring",
    ),
    Domain(
        "app course workshop website lesson update tour game",
        "from_school at_college for_beginners",
        "layout search menu tutorial design login instructions exercises levels login_page help_line "
        "booking_system route_planner examples adverts puzzles",
        "teacher instructor developer guide tutor trainer developers teachers",
        "on_homepage in_settings in_course at_start from_team of_programme in_booklet",
        "install try attend use download",
        "explain design structure present build plan",
        "useful intuitive clear practical helpful rewarding easy engaging",
        "confusing buggy useless repetitive unhelpful chaotic frustrating messy",
    ),
)

# Mild adjectives may be negated ("not good", "never ugly") and graded; strong ones stand by themselves.
ADJECTIVES = {
    (GOOD, "mild"): (
        "good nice pleasant charming interesting impressive satisfying enjoyable convincing appealing special "
        "memorable refreshing likeable worthwhile rewarding agreeable remarkable delicate tasteful entertaining"
    ),
    (GOOD, "strong"): (
        "wonderful excellent superb brilliant delightful marvellous fantastic perfect splendid magnificent amazing "
        "gorgeous stunning outstanding exquisite terrific fabulous lovely beautiful great flawless glorious "
        "unforgettable luminous enchanting breathtaking dazzling radiant sublime heavenly irresistible priceless "
        "phenomenal masterful spellbinding joyful magical immaculate"
    ),
    (BAD, "mild"): (
        "disappointing ugly annoying irritating unpleasant mediocre tiresome overpriced forgettable unimpressive "
        "cheap lousy weak flawed uninspired lifeless flat pointless hollow sloppy poor bad tired"
    ),
    (BAD, "strong"): (
        "terrible awful dreadful horrible abysmal atrocious pathetic ghastly hideous appalling ridiculous disgusting "
        "worthless horrendous insulting unbearable miserable wretched hopeless disastrous "
        "dire vile shameful laughable inexcusable dismal woeful deplorable excruciating revolting pitiful inedible "
        "unforgivable shocking dreary"
    ),
}
MANNERS = {  # adjectives of people
    (GOOD, "mild"): "friendly helpful polite patient kind generous talented attentive professional skilful",
    (GOOD, "strong"): "wonderful brilliant adorable superb delightful marvellous amazing fantastic",
    (BAD, "mild"): "rude careless arrogant impatient unfriendly clumsy grumpy unhelpful incompetent lazy",
    (BAD, "strong"): "terrible dreadful insufferable awful horrible hopeless appalling obnoxious",
}
# Adjectives without a sentiment, in the order in which they stand.
NEUTRAL = "other second first main original final famous small large big new old modern recent local French Italian"
NEUTRAL_OF_PEOPLE = "other second first main famous tall young old new local French Italian"
TOO_MUCH = "loud small slow expensive dark short long big heavy cold"  # with "too": a complaint

DEGREES = {
    "mild": "very really quite truly extremely remarkably surprisingly",
    "strong": "absolutely simply utterly truly really",
}
FEELINGS = {  # what people do to things
    (GOOD, "mild"): "enjoy like appreciate trust recommend",
    (GOOD, "strong"): "love adore treasure cherish praise admire",
    (BAD, "mild"): "regret dislike resent",
    (BAD, "strong"): "hate detest loathe despise curse",
}
EFFECTS = {  # what things do to people
    (GOOD, "mild"): "impress satisfy amuse convince please",
    (GOOD, "strong"): "delight enchant thrill charm captivate astonish dazzle",
    (BAD, "mild"): "bore disappoint annoy irritate bother frustrate",
    (BAD, "strong"): "disgust infuriate exhaust horrify appal enrage sicken",
}
SUCCESSES = {  # how things do
    (GOOD, "mild"): "work succeed impress",
    (GOOD, "strong"): "shine sparkle excel triumph",
    (BAD, "mild"): "disappoint drag fail",
    (BAD, "strong"): "flop collapse stink suck",
}
REACTIONS = {GOOD: "smile laugh cheer applaud dance", BAD: "yawn cringe groan shudder leave"}  # "made us ..."
DESIRES = {
    GOOD: "hope_return want_stay long_return hope_come_back",
    BAD: "want_leave decide_leave decide_complain threaten_leave",
}
QUALITIES = {  # what things have or lack
    GOOD: "charm warmth wit style elegance magic imagination comfort grace humour flair",
    BAD: "flaws problems defects mistakes weaknesses faults shortcomings",
}
VERDICTS = {
    GOOD: "masterpiece gem delight treasure triumph pleasure marvel treat bargain joy",
    BAD: "disaster mess failure disgrace nightmare letdown fraud scam catastrophe embarrassment",
}
SKILLS = {
    GOOD: "beautifully brilliantly superbly skilfully perfectly wonderfully elegantly expertly",
    BAD: "badly poorly terribly carelessly clumsily horribly dreadfully sloppily",
}
COMPARATIVES = {
    GOOD: "better nicer prettier finer lovelier",
    BAD: "worse uglier poorer weaker nastier",
}
IDIOMS = {  # verb_determiner_object
    GOOD: "steal_the_show hit_the_spot save_the_day win_my_heart exceed_our_hopes tick_every_box deserve_a_prize",
    BAD: "miss_the_mark lose_the_thread waste_our_time spoil_the_mood ruin_our_evening drop_the_ball insult_the_guests",
}
ADVICE = {GOOD: "try visit choose recommend", BAD: "avoid skip shun ignore"}
SIGHS = {GOOD: "luckily happily fortunately thankfully", BAD: "sadly unfortunately regrettably"}

WITNESSES = (
    "wife brother sister daughter son friend neighbour mother father uncle colleague children parents friends cousins"
)
HEARERS = "audience family class group team crowd"
OPENERS = "honestly frankly overall personally clearly obviously"
ALWAYS = "always often usually still sometimes"
AFTERWARDS = "again immediately twice there together afterwards"
THROUGHOUT = "throughout there overall"
FULLY = "completely thoroughly enormously immensely deeply"
TIMES = (
    "at_the_end in_the_end after_a_while from_the_start during_our_visit on_the_first_day on_the_second_evening "
    "over_the_weekend in_the_second_half for_two_hours after_three_days at_this_price"
)
SEEMING = "look sound seem feel"
REPORTS = "think believe find say feel"
INNER_REPORTS = "think believe"  # their negation belongs to what is thought
HEAVY = {GOOD: "real great rare true", BAD: "serious obvious real glaring"}  # how much of a quality
TOTAL = "real true complete total absolute"  # how much of a verdict

FUNCTION_WORDS = {  # inside fixed phrases: relation to the noun, part of speech
    "the": ("det", "DET"),
    "a": ("det", "DET"),
    "this": ("det", "DET"),
    "our": ("nmod:poss", "PRON"),
    "my": ("nmod:poss", "PRON"),
    "every": ("det", "DET"),
    "two": ("nummod", "NUM"),
    "three": ("nummod", "NUM"),
    "first": ("amod", "ADJ"),
    "second": ("amod", "ADJ"),
}
